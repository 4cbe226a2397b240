"""People's corrections, carried over to labels that were made anew.

What a person left in an image stays as it is, to the pixel. The new masks are held against it: one that overlaps
a person's mask is that mask; one that lies where a person drew, or that a person has deleted, or that is too much
in a finished image, is deleted; the others are masks that nobody has judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from everymask.errors import ConfigurationError
from everymask.labels.correction import CARRIED, Action, CorrectedMask, ImageCorrection, new_entry_id
from everymask.labels.correction_log import CorrectionLog
from everymask.labels.corrections import is_stale
from everymask.labels.lookup import find_images
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from everymask.masks.rle import rle_ious, shares_inside
from everymask.records import LabelledMask
from everymask.review.matching import SAME_MASK_IOU

_DRAWN_OVER = 0.5
"""A new mask of a class with a larger share inside a person's masks of that class lies where they drew (our choice)."""
_IMAGES_AT_ONCE = 256


@dataclass(frozen=True)
class Classes:
    """The classes of labels before and now, None for entities; and ids of classes by name.

    Attributes:
        ids: those of now, then classes that only people's masks still have.
        new: names that people could not have judged.
    """

    ids: Mapping[str, int]
    new: frozenset[str]

    @classmethod
    def of(cls, before: Sequence[str] | None, now: Sequence[str] | None, named: Sequence[str]) -> Classes:
        """From the class lists, and the names in people's masks."""
        names = list(dict.fromkeys([*(now or ()), *sorted(named)]))
        return cls({name: number for number, name in enumerate(names)}, frozenset(now or ()) - frozenset(before or ()))

    def renumbered(self, mask: CorrectedMask) -> CorrectedMask:
        """The mask with its class's id of now."""
        return mask if mask.class_name is None else replace(mask, class_id=self.ids[mask.class_name])


def check_carriable(before: Sequence[str] | None, now: Sequence[str] | None) -> None:
    """ConfigurationError if labels of classes would take the place of entities or the other way round."""
    if (before is None) != (now is None):
        was, is_now = ("entities", "classes") if before is None else ("classes", "entities")
        raise ConfigurationError(
            f"people corrected {was} here, which cannot be carried over to {is_now}; choose another --output"
        )


def carry_over(store: LabelStore, before: Sequence[str] | None, now: Sequence[str] | None) -> int:
    """Add an entry on top of each that was made for former labels; returns the number of images.

    Doing it again adds nothing.

    Args:
        store: with the new labels.
        before: the classes of the former labels, None for entities.
        now: the classes of the new ones.

    Raises:
        InputError, ConfigurationError: the log or the labels cannot be read.
        OutputError: the store is not writable.
    """
    log = CorrectionLog(store)
    history = log.refresh()
    named = {str(mask.class_name) for one in history.entries.values() for entry in one for mask in entry.masks}
    classes = Classes.of(before, now, sorted(named - {"None"}))
    image_ids, carried = sorted(history.entries), 0
    for start in range(0, len(image_ids), _IMAGES_AT_ONCE):
        some = image_ids[start : start + _IMAGES_AT_ONCE]
        rows = find_images(store, some)
        log.refresh()  # somebody may be working in the page just now
        made = [entry for name in some for entry in _entries(log, name, rows.get(name), classes)]
        if made:
            log.keep(made)
        carried += len({entry.image_id for entry in made})
    return carried


def _entries(log: CorrectionLog, image_id: str, row: ImageRow | None, classes: Classes) -> list[ImageCorrection]:
    """New entries on top of each of an image's heads, which keep their order; none if nothing would change."""
    heads = log.history.heads(image_id)
    after = [carried_masks(head, row, classes) for head in heads]
    if all(_by_id(masks) == _by_id(head.masks) for masks, head in zip(after, heads, strict=True)):
        return []
    now = datetime.now(UTC)
    return [
        replace(
            head,
            masks=masks,
            tool=CARRIED,
            entry_id=new_entry_id(),
            bases=(head.entry_id,),
            undoes=None,
            imported_at=(now + timedelta(milliseconds=number)).isoformat(timespec="milliseconds"),
        )
        for number, (head, masks) in enumerate(zip(heads, after, strict=True))
    ]


def _by_id(masks: Sequence[CorrectedMask]) -> dict[str, CorrectedMask]:
    return {mask.mask_id: mask for mask in masks}


def carried_masks(entry: ImageCorrection, row: ImageRow | None, classes: Classes) -> tuple[CorrectedMask, ...]:
    """The masks of an entry, held against an image's new labels.

    Args:
        entry: made for other labels, or carried over before.
        row: the image's row; None if it is lost.
        classes: before and now.
    """
    masks = [classes.renumbered(mask) for mask in entry.masks]
    if row is None or row.labels is None or is_stale(entry, row.content_sha256) or row.labels.size_hw != entry.size_hw:
        return tuple(masks)
    left = [mask for mask in masks if mask.action not in ("kept", "deleted")]
    deleted = [mask for mask in masks if mask.action == "deleted"]
    machine = row.labels.masks
    ious = rle_ious([mask.rle for mask in left], [mask.rle for mask in machine])
    pairs = _pairs(ious)
    found = [
        _matched(mask, machine[pairs[number]] if number in pairs else None, ious, number, pairs)
        for number, mask in enumerate(left)
    ]
    free = [number for number in range(len(machine)) if number not in pairs.values()]
    gone = _pairs(rle_ious([mask.rle for mask in deleted], [machine[number].rle for number in free]))
    again = {free[column]: row_number for row_number, column in gone.items()}
    drawn_over = _drawn_over([machine[number] for number in free], left)
    fresh: list[CorrectedMask] = []
    met: set[int] = set()
    for number, lies_there in zip(free, drawn_over, strict=True):
        mask = machine[number]
        former = deleted[again[number]] if number in again else None
        was_deleted = former is not None and (former.class_name == mask.class_name or entry.finished)
        if former is not None and was_deleted:
            met.add(again[number])
        too_much = entry.finished and mask.class_name not in classes.new
        if former is not None and was_deleted and former.mask_id == mask.mask_id:
            fresh.append(former)
        else:
            fresh.append(_of_machine(mask, deleted=was_deleted or lies_there or too_much))
    unmet = [mask for number, mask in enumerate(deleted) if number not in met]
    return (*found, *unmet, *fresh)


def _pairs(ious: NDArray[np.float64]) -> dict[int, int]:
    """The best pairs of rows and columns from `SAME_MASK_IOU` on, each used once."""
    left, pairs = ious.copy(), dict[int, int]()
    while left.size and left.max() >= SAME_MASK_IOU:
        row, column = divmod(int(left.argmax()), left.shape[1])
        pairs[row] = column
        left[row, :] = left[:, column] = 0.0
    return pairs


def _matched(
    mask: CorrectedMask, parent: LabelledMask | None, ious: NDArray[np.float64], number: int, pairs: Mapping[int, int]
) -> CorrectedMask:
    """A mask that a person left, as a change to the new mask that it was paired with."""
    if parent is None:
        return replace(mask, action="added", parent_id=None, iou=None)
    parent_id = str(parent.mask_id)
    if mask.rle["counts"] != parent.rle["counts"]:
        return replace(mask, action="edited", parent_id=parent_id, iou=float(ious[number, pairs[number]]))
    action: Action = "confirmed" if mask.class_name == parent.class_name else "relabelled"
    return replace(mask, action=action, mask_id=parent_id, parent_id=parent_id, iou=1.0)


def _drawn_over(machine: Sequence[LabelledMask], left: Sequence[CorrectedMask]) -> list[bool]:
    """Whether each mask lies in what people left of its class."""
    found = []
    for mask in machine:
        alike = [one.rle for one in left if one.class_name == mask.class_name]
        found.append(bool(alike) and float(shares_inside([mask.rle], alike)[0]) > _DRAWN_OVER)
    return found


def _of_machine(mask: LabelledMask, deleted: bool) -> CorrectedMask:
    mask_id = str(mask.mask_id)
    action: Action = "deleted" if deleted else "kept"
    return CorrectedMask(action, mask_id, mask_id, mask.rle, mask.class_id, mask.class_name, 0.0 if deleted else 1.0)
