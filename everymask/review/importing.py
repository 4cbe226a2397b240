"""Import corrections: read them, match them with the store's images and masks, and keep them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from everymask.errors import InputError
from everymask.formats.class_names import ENTITY_CLASS, ClassNames
from everymask.formats.format import Naming
from everymask.formats.naming import plan_names, relative_path, shown
from everymask.labels.corrections import (
    ACTIONS,
    ImageCorrection,
    corrected,
    read_corrections,
    write_corrections,
)
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from everymask.review.matching import correct_image
from everymask.review.reviewed import EditingFormat, RefusedImage, ReviewedImage
from everymask.review.tool_files import read_reviewed

_REFUSED_SHOWN = 3


@dataclass(frozen=True)
class ImportSummary:
    """The result of an import.

    Attributes:
        images: images that a person finished, without those imported before.
        changed: how many of these differ from the model's labels.
        masks: number of masks for each action.
        path: the file of corrections; None if nothing was new.
        again: images that came back as they were imported before.
        refused: one sentence for each image left out.
        ignored: number of things that are not masks, such as points and choices, by kind.
        drawn: number of masks drawn as boxes or ellipses, which do not outline objects.
    """

    images: int
    changed: int
    masks: dict[str, int]
    path: str | None
    again: int = 0
    refused: tuple[str, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)
    drawn: dict[str, int] = field(default_factory=dict)


def import_corrections(store: LabelStore, path: Path, tool: EditingFormat) -> ImportSummary:
    """Read an annotation tool's file or folder and keep what is new in it as corrections.

    An image that cannot be read or is not in the store is left out and reported. Importing again keeps nothing twice.

    Raises:
        InputError: nothing in it can be imported.
        ConfigurationError: the store mixes class lists.
        OutputError: the store is not writable.
    """
    finished = []
    refused = []
    for one in read_reviewed(path, tool):
        if isinstance(one, RefusedImage):
            refused.append(one.problem)
        else:
            finished.append(one)
    found, strangers = match_images(store, finished)
    refused += strangers
    names, rows = _rows(store, set(found))
    before = read_corrections(store)
    imported_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    corrections, again = [], 0
    ignored: Counter[str] = Counter()
    drawn: Counter[str] = Counter()
    for image_id, review in found.items():
        image = rows[image_id]
        labels = corrected(image, before).labels
        earlier = before.get(image_id)
        try:
            if labels is None:
                raise InputError(f"{shown(image_id)} has an error in place of labels; retry it before correcting it")
            correction = correct_image(review, image, labels, earlier, names, tool, imported_at)
        except InputError as error:
            refused.append(str(error))
            continue
        ignored.update(review.ignored)
        if earlier is not None and _same(correction, earlier):
            again += 1
            continue
        corrections.append(correction)
        drawn.update(mask.drawn_as for mask in review.masks if mask.drawn_as is not None)
    if refused and not corrections and not again:
        raise InputError(f"nothing was imported: {first_of(refused)}")
    written = write_corrections(store, corrections) if corrections else None
    summary = summarise(corrections, written)
    return replace(summary, again=again, refused=tuple(refused), ignored=dict(ignored), drawn=dict(drawn))


def first_of(sentences: list[str]) -> str:
    """The first few sentences, and how many more there are."""
    more = f"; and {len(sentences) - _REFUSED_SHOWN:,} more" if len(sentences) > _REFUSED_SHOWN else ""
    return "; ".join(sentences[:_REFUSED_SHOWN]) + more


def summarise(corrections: Iterable[ImageCorrection], path: str | None) -> ImportSummary:
    listed = list(corrections)
    counts: dict[str, int] = {action: sum(one.count(action) for one in listed) for action in ACTIONS}
    return ImportSummary(len(listed), sum(one.changed for one in listed), counts, path)


def _same(correction: ImageCorrection, earlier: ImageCorrection) -> bool:
    """Whether two corrections describe the same masks by the same person."""
    by_id = {mask.mask_id: mask for mask in earlier.masks}
    return (
        (correction.size_hw, correction.content_sha256) == (earlier.size_hw, earlier.content_sha256)
        and (correction.annotator, correction.corrected_at) == (earlier.annotator, earlier.corrected_at)
        and {mask.mask_id: mask for mask in correction.masks} == by_id
    )


def match_images(store: LabelStore, reviewed: list[ReviewedImage]) -> tuple[dict[str, ReviewedImage], list[str]]:
    """Reviewed images by their id in the store, and a sentence for each one without a match; see `match_ids`."""
    ids = {
        image_id for batch in store.batches(["image_id"], batch_size=4096) for image_id in batch["image_id"].to_pylist()
    }
    return match_ids(ids, f"the store {store.uri}", reviewed)


def match_ids(known: Set[str], place: str, reviewed: list[ReviewedImage]) -> tuple[dict[str, ReviewedImage], list[str]]:
    """Reviewed images by their id, and a sentence for each one without a match.

    Images are found by the id that the tool kept, by name, by unique name in an export with images, or by a file name
    that only one image has. Names are compared in composed Unicode form, because tools and file systems change the
    form.

    Args:
        known: all ids.
        place: where the images are, for the sentences.
        reviewed: as a tool's reader returns them.
    """
    unique = plan_names(list(known), Naming.IMAGE_ID, r"\0", unique=True).unique or {}
    by_name: dict[str, set[str]] = {}
    for image_id in known:
        path = relative_path(image_id)
        for name in {image_id, unique[image_id], path, PurePosixPath(path).name}:
            by_name.setdefault(_composed(name), set()).add(image_id)
    found: dict[str, ReviewedImage] = {}
    refused = []
    for review in reviewed:
        exact = next((one for one in (review.image_id, review.name) if one in known), None)
        candidates = {exact} if exact else by_name.get(_composed(review.image_id or review.name), set())
        candidates = candidates or by_name.get(_composed(review.name), set())
        if len(candidates) != 1:
            several = f"could be any of {', '.join(sorted(map(shown, candidates))[:3])}"
            problem = several if candidates else f"is not in {place}"
            refused.append(f"the image {shown(review.name)} {problem}")
            continue
        (image_id,) = candidates
        if image_id in found:
            refused.append(f"the image {shown(image_id)} came back twice; the first one counts")
            continue
        found[image_id] = review
    return found, refused


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _rows(store: LabelStore, wanted: set[str]) -> tuple[dict[str, int | None], dict[str, ImageRow]]:
    """Class ids by name, and the rows of the wanted images."""
    names = ClassNames.of_store(store)
    rows = {}
    entities = True
    for image in store.images():
        for mask in image.labels.masks if image.labels else ():
            names.index(mask)
            entities = entities and mask.class_id is None
        if image.image_id in wanted:
            rows[image.image_id] = image
    listed = names.dense()
    if entities and listed == [ENTITY_CLASS]:
        return {ENTITY_CLASS: None}, rows
    return {name: index for index, name in enumerate(listed)}, rows
