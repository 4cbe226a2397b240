"""Compares two labellings of an image: which masks stayed, moved, were renamed, went or came."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from everymask.errors import InputError
from everymask.masks.rle import rle_ious
from everymask.records import ImageLabels

MATCH_IOU = 0.5
"""IoU from which two masks match, best pairs first."""
SAME_IOU = 0.9
"""A match of the same class below this IoU has moved (our choice)."""


@dataclass(frozen=True)
class Changes:
    """Number of masks by what happened to them.

    Attributes:
        same: same class, IoU of at least 0.9.
        moved: same class, lower IoU.
        renamed: another class.
        gone: only in the first labelling.
        new: only in the second.
    """

    same: int = 0
    moved: int = 0
    renamed: int = 0
    gone: int = 0
    new: int = 0

    @property
    def share(self) -> float:
        """Share of masks that are not the same, [0, 1]; a matched pair counts once."""
        different = self.moved + self.renamed + self.gone + self.new
        return different / max(different + self.same, 1)

    def __add__(self, other: Changes) -> Changes:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Changes(*(first + second for first, second in pairs))


def compare_labels(first: ImageLabels, second: ImageLabels) -> Changes:
    """Compare the masks of one image; InputError if the labellings have different sizes."""
    return sum(compare_classes(first, second).values(), Changes())


def compare_classes(first: ImageLabels, second: ImageLabels) -> dict[str | None, Changes]:
    """`compare_labels` by class: a renamed mask counts for the class that it had. None is the class of entities."""
    if first.size_hw != second.size_hw:
        raise InputError(f"one labelling is of {first.size_hw}, the other of {second.size_hw} [height, width] pixels")
    ious = rle_ious([mask.rle for mask in first.masks], [mask.rle for mask in second.masks])
    gone, new = set(range(len(first.masks))), set(range(len(second.masks)))
    found: Counter[tuple[str | None, str]] = Counter()
    while ious.size and ious.max() >= MATCH_IOU:
        row, column = np.unravel_index(int(ious.argmax()), ious.shape)
        name = first.masks[row].class_name
        if name != second.masks[column].class_name:
            found[name, "renamed"] += 1
        else:
            found[name, "same" if ious[row, column] >= SAME_IOU else "moved"] += 1
        gone.discard(int(row))
        new.discard(int(column))
        ious[row, :] = ious[:, column] = 0.0
    found.update((first.masks[place].class_name, "gone") for place in gone)
    found.update((second.masks[place].class_name, "new") for place in new)
    by_class: dict[str | None, Changes] = {}
    for (name, what), count in found.items():
        by_class[name] = by_class.get(name, Changes()) + Changes(**{what: count})
    return by_class
