"""Shares of an export: consecutive images of the store that one process writes, and its report on them.

Reports of finished shares lie beside their files, so a killed export resumes with the others.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from everymask.files.addresses import AddressPolicy
from everymask.formats.class_names import ClassNames
from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, ImagesMode, Keeps
from everymask.formats.loss import Loss
from everymask.formats.naming import NamePlan
from everymask.formats.picture_files import PictureFiles
from everymask.formats.splits import SplitCounts, SplitPlan
from everymask.images.decoding import ImageLimits
from everymask.labels.correction import ImageCorrection
from everymask.labels.corrections import laid_over
from everymask.labels.parts import MissingPartError
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore

_CHUNK_ROWS = 256
"""Rows of a part that always go to the same share."""
_LEAST_IMAGES, _MOST_IMAGES, _SHARES = 64, 2048, 64
"""Bounds on a share's images and the target number of shares; shares do not depend on the number of processes."""


@dataclass(frozen=True)
class Job:
    """What all shares of an export have in common. Picklable.

    Attributes:
        format: name in the registry.
        options: how it is written.
        folder: where everything is written.
        main: name of the format's one file; "" for a folder.
        names: of the classes by index, as run.json has them.
        num_images: of the whole export.
        images: how images are put into the export; None to leave them where they are.
        splits: names of the splits.
        limits: on reading an image.
        policy: which image addresses may be opened.
    """

    store: LabelStore
    format: str
    options: ExportOptions
    folder: Path
    main: str
    names: dict[int, str]
    num_images: int
    images: ImagesMode | None
    splits: tuple[str, ...]
    limits: ImageLimits
    policy: AddressPolicy

    def destination(self, names: ClassNames, share: int = 0) -> Destination:
        return Destination(self.folder, self.main, names, self.num_images, self.images is not None, self.splits, share)


@dataclass(frozen=True, slots=True)
class Planned:
    """An image of the export: its place from 1, its name in the export, and its split."""

    number: int
    name: str
    split: str


@dataclass(frozen=True)
class Share:
    """Some images of an export. Picklable.

    Attributes:
        number: from 0.
        rows: where they lie: names of parts, each with first row and row behind the last.
        images: those to export, by id.
        corrections: people's corrections of them, by id.
    """

    number: int
    rows: tuple[tuple[str, int, int], ...]
    images: dict[str, Planned]
    corrections: dict[str, ImageCorrection]


@dataclass
class Told:
    """The report of a finished share: its number, totals over its images, and what its writer left."""

    share: int
    images: int = 0
    turned: int = 0
    loss: Loss = field(default_factory=Loss)
    counts: SplitCounts = field(default_factory=SplitCounts)
    names: dict[int, str] = field(default_factory=dict)
    ended: Ended = field(default_factory=Ended)

    def keep(self, file: Path) -> None:
        """Write the report atomically."""
        draft = file.with_suffix(".draft")
        content = vars(self) | {"loss": asdict(self.loss), "counts": vars(self.counts), "ended": asdict(self.ended)}
        draft.write_text(json.dumps(content), encoding="utf-8")
        os.replace(draft, file)

    @classmethod
    def kept(cls, file: Path) -> Told | None:
        """The report that an earlier attempt kept, or None."""
        if not file.is_file():
            return None
        content = json.loads(file.read_text(encoding="utf-8"))
        masks = {name: Counter(counts) for name, counts in content["counts"]["masks"].items()}
        return cls(
            content["share"],
            content["images"],
            content["turned"],
            Loss(**content["loss"]),
            SplitCounts(Counter(content["counts"]["images"]), masks),
            {int(index): name for index, name in content["names"].items()},
            Ended(**content["ended"]),
        )


def shares_of(
    store: LabelStore, names: NamePlan, splits: SplitPlan, known: Mapping[str, ImageCorrection]
) -> Iterator[Share]:
    """All images of an export in shares; corrected ones whose row was lost come last.

    Raises:
        InputError: a part of the store is damaged.
    """

    def planned(image_id: str) -> Planned:
        return Planned(names.numbers[image_id], names.name(image_id), splits.of.get(image_id, ""))

    waiting = bytearray([0, *[1] * len(names.numbers)])  # by number; no image has 0
    target = min(_MOST_IMAGES, max(_LEAST_IMAGES, len(names.numbers) // _SHARES))
    rows: list[tuple[str, int, int]] = []
    images: dict[str, Planned] = {}
    number = 0
    for part in store.parts():
        try:
            ids = store.read_columns(part, ["image_id"])["image_id"].to_pylist()
        except MissingPartError:
            rows.append((store.name_of(part), 0, 1))  # the share that is being filled will look for its images
            continue
        for first in range(0, len(ids), _CHUNK_ROWS):
            chunk = ids[first : first + _CHUNK_ROWS]
            found = {image_id: planned(image_id) for image_id in chunk if waiting[names.numbers.get(image_id, 0)]}
            if not found:
                continue
            for image in found.values():
                waiting[image.number] = False
            rows.append((store.name_of(part), first, first + len(chunk)))
            images |= found
            if len(images) >= target:
                yield _share(number, rows, images, known)
                number, rows, images = number + 1, [], {}
    images |= {image_id: planned(image_id) for image_id, number in names.numbers.items() if waiting[number]}
    if images:
        yield _share(number, rows, images, known)


def _share(
    number: int, rows: list[tuple[str, int, int]], images: dict[str, Planned], known: Mapping[str, ImageCorrection]
) -> Share:
    corrections = {image_id: known[image_id] for image_id in images if image_id in known}
    return Share(number, tuple(rows), images, corrections)


def told_file(folder: Path, number: int) -> Path:
    """The file whose existence shows that a share is finished."""
    return Destination(folder, "", ClassNames(), 0, False).scratch / f"{number:06d}.json"


def write_share(job: Job, chosen: Format, share: Share, tick: Callable[[], None] = lambda: None) -> Told:
    """Write one share and keep its report.

    `tick` is called after each image.

    Raises:
        InputError: a part is damaged, or an image to include cannot be read.
        ConfigurationError: the format cannot hold the labels.
    """
    names = ClassNames()
    names.merge(job.names)
    writer = chosen.writer(job.destination(names, share.number), job.options)
    pictures = PictureFiles(job.folder, job.images, job.limits, job.policy) if job.images else None
    told = Told(share.number)
    for image, labels in laid_over(_rows(job.store, share), share.corrections):
        if image.image_id not in share.images:
            continue
        planned = share.images[image.image_id]
        for mask in labels.masks:
            names.index(mask)
        embedded = pictures.read(image, planned.name) if pictures is not None and chosen.embeds_images else None
        if pictures is not None and embedded is None:
            pictures.add(image, chosen.image_path(planned.name, planned.split))
        exported = ExportedImage(planned.number, planned.name, image, labels, planned.split, embedded)
        told.loss.add(image.image_id, labels.masks, writer.add(exported), Keeps.OVERLAPS in chosen.keeps)
        told.counts.add(planned.split, map(names.name, labels.masks))
        told.images += 1
        tick()
    told.ended, told.names = writer.end(), names.known()
    told.turned = pictures.turned if pictures else 0
    told.keep(told_file(job.folder, share.number))
    return told


def _rows(store: LabelStore, share: Share) -> Iterator[ImageRow]:
    """A share's rows. If a run has sealed their part since, they are found in the whole store."""
    wanted = set(share.images)
    gone = False
    for name, first, last in share.rows:
        try:
            for image in store.images_in(store.part(name), range(first, last)):
                wanted.discard(image.image_id)
                yield image
        except MissingPartError:
            gone = True
    if gone or wanted.difference(share.corrections):
        yield from (image for image in store.images() if image.image_id in wanted)
