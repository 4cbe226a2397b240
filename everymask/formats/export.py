"""One export: plan names, stream images, measure losses and put everything in place at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from everymask.errors import ConfigurationError
from everymask.files.addresses import AddressPolicy
from everymask.files.storage import is_remote, split_query
from everymask.formats.apart import check_apart
from everymask.formats.class_names import ClassNames
from everymask.formats.export_key import export_key
from everymask.formats.format import Ended, ExportOptions, Format, ImagesMode, Keeps
from everymask.formats.licences import licences, licences_name
from everymask.formats.loss import Loss
from everymask.formats.naming import NamePlan, plan_names
from everymask.formats.processes import WriteShares, write_here
from everymask.formats.shares import Job, Share, Told, shares_of, told_file
from everymask.formats.splits import SPLITS_FILE, SplitCounts, SplitOptions, SplitPlan, plan_splits
from everymask.formats.spool import cut_by_size
from everymask.formats.staging import main_file, staged
from everymask.images.decoding import ImageLimits
from everymask.labels.address_policy import address_policy
from everymask.labels.corrections import Survey, read_corrections, survey
from everymask.labels.erasure import remember_export
from everymask.labels.store import LabelStore
from everymask.wording import counted

_NUMBERED, _INDEX = "labels", "index.json"
Progress = Callable[[int, int], None]
"""Called with the numbers of images done and to do."""


@dataclass(frozen=True)
class ExportRequest:
    """What to export, how and where to.

    Attributes:
        output: file or folder, local or remote.
        images: put the images beside the labels under unique names; None leaves them where they are.
        max_loss: largest allowed 1 - IoU of any mask; None for no limit.
        overwrite: replace an earlier export.
        image_ids: export only these; None for all.
        split: how images are divided for training, validation and test; None for no splits.
        corrections: export people's corrections; False exports what the model made.
        limits: on reading an image.
        policy: which image addresses may be opened; by default, those of the store's own input.
        exemplars: folder of the exemplars that taught the classes, to name their creators.
        file_mib: split a one-file format into numbered files of about this size, with an index.
    """

    format: Format
    options: ExportOptions
    output: str
    images: ImagesMode | None = None
    max_loss: float | None = None
    overwrite: bool = False
    image_ids: frozenset[str] | None = None
    split: SplitOptions | None = None
    corrections: bool = True
    limits: ImageLimits = field(default_factory=ImageLimits)
    policy: AddressPolicy | None = None
    exemplars: str | None = None
    file_mib: float | None = None

    def __post_init__(self) -> None:
        if self.max_loss is not None and not 0 <= self.max_loss <= 1:
            raise ConfigurationError(f"max-loss must lie in [0, 1]; got {self.max_loss}")
        if self.split is not None and not self.format.has_splits:
            raise ConfigurationError(f"{self.format.name} has no splits; leave out --split, or choose another format")
        if self.file_mib is not None and not self.format.suffix:
            raise ConfigurationError(f"{self.format.name} has a file for each image or split; leave out --file-mib")
        if self.file_mib is not None and not self.file_mib > 0:
            raise ConfigurationError(f"--file-mib must be positive; got {self.file_mib}")
        if self.images == "link" and self.format.embeds_images:
            raise ConfigurationError(f"{self.format.name} holds the images and cannot link to them; leave out --images")


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote and lost.

    Attributes:
        images: labelled images.
        masks: masks in them.
        errors: images left out because they have an error in place of labels.
        loss: what the masks lost.
        not_kept: facts that the format cannot hold.
        turned: images written upright.
        stale: images whose file changed after correction; their corrections are not written.
        notes: further sentences on splits, missing things and the next command.
    """

    images: int
    masks: int
    errors: int
    loss: Loss
    not_kept: tuple[Keeps, ...] = ()
    turned: int = 0
    stale: int = 0
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report as sentences for a terminal."""
        left_out = f"; left out: {counted(self.errors, 'image')} with an error" if self.errors else ""
        loss = self.loss
        lines = [
            f"{counted(self.images, 'image')}, {counted(self.masks, 'mask')}{left_out}",
            f"IoU of what was written with the store: mean {loss.mean_iou:.4f}, worst {loss.worst_iou:.4f}"
            + (f" ({loss.worst})" if loss.worst else ""),
        ]
        if loss.changed:
            lines.append(f"not as in the store: {counted(loss.changed, 'mask')}; gone: {loss.vanished:,}")
        if loss.overlapping:
            lines.append(f"overlapping: {counted(loss.overlapping, 'mask')}; the pixels went to the higher score")
        if self.not_kept:
            lines.append("not kept by this format: " + ", ".join(item.value for item in self.not_kept))
        if self.turned:
            lines.append(f"written upright, without EXIF orientation: {counted(self.turned, 'image')}")
        if self.stale:
            lines.append(
                f"corrected, and another file now: {counted(self.stale, 'image')}, whose corrections are kept, and not "
                "written"
            )
        return [*lines, *self.notes]


def export(
    store: LabelStore,
    request: ExportRequest,
    progress: Progress = lambda done, total: None,
    write_shares: WriteShares = write_here,
) -> ExportReport:
    """Write one export atomically, in memory that does not grow with the number of masks.

    A killed export resumes when it is requested again.

    Args:
        progress: called as images are done.
        write_shares: how shares are written; by default one after the other.

    Raises:
        InputError: the label store is missing or damaged, or an image to include cannot be read.
        ConfigurationError: names collide, the format cannot hold the labels, a loss exceeds the limit, or the output
            exists.
        OutputError: the output cannot be written.
    """
    chosen = request.format
    main = "" if request.file_mib else main_file(request.output, chosen.suffix)
    if request.images or chosen.draws_masks:
        check_apart(store, request.output, _picture_folder(request, main))
    plan, found = _plan(store, request)
    policy = request.policy or address_policy(store)
    splits = (
        plan_splits(store, list(plan.numbers), request.split, request.limits, policy) if request.split else SplitPlan()
    )
    names = ClassNames.of_store(store)
    known = read_corrections(store) if request.corrections else {}
    licences_file = licences_name(main)
    asked = (request.output, chosen.name, request.options, request.images, request.corrections, request.file_mib)
    key = export_key(store, asked, plan, splits)
    with staged(request.output, _beside(request, main, licences_file), not main, request.overwrite, key) as folder:
        settings = (names.known(), len(plan.numbers), request.images, splits.names, request.limits, policy)
        job = Job(store, chosen.name, request.options, folder, main, *settings)
        all_told = _written(job, chosen, shares_of(store, plan, splits, known), progress, write_shares)
        sums = _Sums(names)
        for told in all_told:
            sums.add(told)
        _close(job, request, names, [told.ended for told in all_told], list(plan.numbers))
        (folder / licences_file).write_text(licences(store, request.exemplars), encoding="utf-8")
        if splits.of:
            (folder / SPLITS_FILE).write_text(splits.csv(), encoding="utf-8")
        _check_loss(sums.loss, request.max_loss)
    not_kept = tuple(item for item in Keeps if item not in chosen.keeps)
    notes = _notes(request, splits, sums.counts, names)
    if sums.loss.changed and chosen.caveat:
        notes = (chosen.caveat, *notes)
    remember_export(store, request.output, chosen.name, sums.images)
    return ExportReport(
        sums.images, sums.loss.masks, found.errors, sums.loss, not_kept, sums.turned, len(found.stale), notes
    )


@dataclass
class _Sums:
    names: ClassNames
    loss: Loss = field(default_factory=Loss)
    counts: SplitCounts = field(default_factory=SplitCounts)
    images: int = 0
    turned: int = 0

    def add(self, told: Told) -> None:
        self.names.merge(told.names)
        self.loss.merge(told.loss)
        self.counts.merge(told.counts)
        self.images += told.images
        self.turned += told.turned


def _picture_folder(request: ExportRequest, main: str) -> str:
    """The folder that holds an export's pictures, at whatever depth."""
    place, query = split_query(request.output) if is_remote(request.output) else (request.output, "")
    beside = f"{place.removesuffix(main)}{request.format.image_folder.partition('/')[0]}" if main else place
    return beside + query


def _beside(request: ExportRequest, main: str, licences_file: str) -> list[str]:
    """Names of the files and folders beside a format's one file."""
    if not main:
        return []
    chosen = request.format
    sidecar = [PurePosixPath(main).stem + chosen.sidecar_suffix] if chosen.sidecar_suffix else []
    return [*sidecar, licences_file, *([chosen.image_folder] if request.images else [])]


def _written(
    job: Job, chosen: Format, shares: Iterable[Share], progress: Progress, write_shares: WriteShares
) -> list[Told]:
    """The reports of all shares in order; shares that an earlier attempt finished are not written again."""
    all_told: list[Told] = []
    finished = 0

    def done(images: int) -> None:
        nonlocal finished
        finished += images
        progress(finished, job.num_images)

    def unfinished() -> Iterator[Share]:
        for share in shares:
            if told := Told.kept(told_file(job.folder, share.number)):
                all_told.append(told)
                done(told.images)
            else:
                yield share

    told_file(job.folder, 0).parent.mkdir(exist_ok=True)
    for told in write_shares(job, chosen, unfinished(), done):
        all_told.append(told)
    return sorted(all_told, key=lambda told: told.share)


def _close(job: Job, request: ExportRequest, names: ClassNames, ended: list[Ended], ordered: list[str]) -> None:
    """Write what all images share: one file, or numbered files and their index."""
    chosen, destination = request.format, job.destination(names)
    if request.file_mib is None:
        chosen.close(destination, request.options, ended)
        return
    spools = [destination.scratch / spool for one in ended for spool in one.spools.values()]
    listed = []
    for number, numbers in enumerate(cut_by_size(spools, int(request.file_mib * 2**20))):
        file = f"{_NUMBERED}-{number:05d}{chosen.suffix}"
        chosen.close(replace(destination, main=file, numbers=numbers, images=len(numbers)), request.options, ended)
        first, last = ordered[numbers.start - 1], ordered[numbers.stop - 2]
        listed.append({"file": file, "images": len(numbers), "first_image_id": first, "last_image_id": last})
    index = {"format": chosen.name, "images": job.num_images, "files": listed}
    (job.folder / _INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _notes(request: ExportRequest, splits: SplitPlan, counts: SplitCounts, names: ClassNames) -> tuple[str, ...]:
    chosen, notes = request.format, []
    if splits.of:
        notes += counts.lines(splits.names, names.dense())
    if splits.unread:
        notes.append(
            f"not readable, so without a look for near-duplicates: {counted(splits.unread, 'image')}; put what is "
            "missing back, or say what belongs together with --split-by"
        )
    if chosen.has_splits and not splits.of:
        notes.append("no image is kept aside: give --split 0.8/0.1/0.1, or training is measured on its own images")
    if request.images == "link":
        notes.append(
            "images are links: a tool that mends or rewrites images, as Ultralytics does with damaged JPEG files, "
            "changes the originals; --images copy is safe"
        )
    elif request.images is None and chosen.needs_images:
        notes.append(f"the images are not in the export, and its readers want them there: {chosen.image_folder}")
    if chosen.next_line is not None:
        notes.append(f"next: {chosen.next_line(request.output, request.options)}")
    return tuple(notes)


def _plan(store: LabelStore, request: ExportRequest) -> tuple[NamePlan, Survey]:
    """Names of the images to export, and the store's contents for them."""
    found = survey(store, request.corrections, request.image_ids)
    chosen = request.format
    unique = request.images is not None
    if unique and chosen.embeds_images:  # no folder of images needs plain names, as long as the ids do not collide
        with suppress(ConfigurationError):
            return plan_names(found.labelled, chosen.naming, chosen.refused_name, unique=False), found
    return plan_names(found.labelled, chosen.naming, chosen.refused_name, unique), found


def _check_loss(loss: Loss, max_loss: float | None) -> None:
    if max_loss is not None and 1 - loss.worst_iou > max_loss:
        raise ConfigurationError(
            f"a mask of {loss.worst} would come back at IoU {loss.worst_iou:.4f}, a loss above --max-loss "
            f"{max_loss:g}; nothing was written: lower --tolerance, or choose a format that keeps masks exactly, such "
            "as coco"
        )
