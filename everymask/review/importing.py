"""Corrections come back: read, matched with the store's images and masks, and kept, all or none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
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
from everymask.labels.rows import LabelledImage
from everymask.labels.store import LabelStore
from everymask.review.matching import correct_image
from everymask.review.reviewed import EditingFormat, ReviewedImage
from everymask.review.tool_files import read_reviewed


@dataclass(frozen=True)
class ImportSummary:
    """What an import brought.

    Attributes:
        images: that a person has finished.
        changed: how many of these are not as the model left them.
        masks: how many became of each action.
        path: the file of corrections; None where nothing was finished.
    """

    images: int
    changed: int
    masks: dict[str, int]
    path: str | None


def import_corrections(store: LabelStore, path: Path, tool: EditingFormat) -> ImportSummary:
    """Read what an annotation tool gave back and keep it as corrections.

    Args:
        store: the label store that was exported.
        path: file or folder.
        tool: its format.

    Raises:
        InputError: something in it cannot be read or does not belong to the store; nothing was imported.
        ConfigurationError: the store mixes class lists.
        OutputError: the store is not writable.
    """
    reviewed = read_reviewed(path, tool)
    found = match_images(store, reviewed)
    names, rows = _rows(store, set(found))
    before = read_corrections(store)
    imported_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    corrections = []
    for image_id, review in found.items():
        image = rows[image_id]
        labels = corrected(image, before).labels
        if labels is None:
            raise InputError(f"{shown(image_id)} has an error in place of labels; retry it before correcting it")
        corrections.append(correct_image(review, image, labels, before.get(image_id), names, tool, imported_at))
    written = write_corrections(store, corrections) if corrections else None
    return summarise(corrections, written)


def summarise(corrections: Iterable[ImageCorrection], path: str | None) -> ImportSummary:
    """Counts of corrections."""
    listed = list(corrections)
    counts: dict[str, int] = {action: sum(one.count(action) for one in listed) for action in ACTIONS}
    return ImportSummary(len(listed), sum(one.changed for one in listed), counts, path)


def match_images(store: LabelStore, reviewed: list[ReviewedImage]) -> dict[str, ReviewedImage]:
    """Reviewed images by the id of the store's image that they are.

    An image is found by the id that the tool kept, by its name, by its unique name in an export with images, or by a
    file name that only one image has.

    Raises:
        InputError: an image is not in the store, could be several, or came back twice.
    """
    ids = [
        image_id for batch in store.batches(["image_id"], batch_size=4096) for image_id in batch["image_id"].to_pylist()
    ]
    known = set(ids)
    unique = plan_names(list(known), Naming.IMAGE_ID, r"\0", unique=True).unique or {}
    by_name: dict[str, set[str]] = {}
    for image_id in known:
        for name in {unique[image_id], relative_path(image_id), PurePosixPath(relative_path(image_id)).name}:
            by_name.setdefault(name, set()).add(image_id)
    found: dict[str, ReviewedImage] = {}
    for review in reviewed:
        exact = next((one for one in (review.image_id, review.name) if one in known), None)
        candidates = {exact} if exact else by_name.get(review.name, set())
        if len(candidates) != 1:
            several = f"could be any of {', '.join(sorted(candidates)[:3])}" if candidates else "is not in the store"
            raise InputError(
                f"the image {shown(review.name)} {several}; nothing was imported: give an export of {store.uri}"
            )
        image_id = candidates.pop()
        assert image_id is not None
        if image_id in found:
            raise InputError(f"the image {shown(image_id)} came back twice; nothing was imported: leave one out")
        found[image_id] = review
    return found


def _rows(store: LabelStore, wanted: set[str]) -> tuple[dict[str, int | None], dict[str, LabelledImage]]:
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
