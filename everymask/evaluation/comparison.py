"""Two labellings of the same image: which masks stayed, moved, were renamed, went or came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from everymask.errors import InputError
from everymask.masks.rle import rle_ious
from everymask.records import ImageLabels

MATCH_IOU = 0.5
"""Two masks that overlap at least so much are one, the best pair first."""
SAME_IOU = 0.9
"""One of the same class that overlaps less than this has moved (our choice)."""


@dataclass(frozen=True)
class Changes:
    """How many masks became what.

    Attributes:
        same: of one class, IoU of at least 0.9.
        moved: of one class, less IoU.
        renamed: of another class.
        gone: only the first labelling has them.
        new: only the second one has them.
    """

    same: int = 0
    moved: int = 0
    renamed: int = 0
    gone: int = 0
    new: int = 0

    @property
    def share(self) -> float:
        """Share of the masks of both, matched ones counted once, that are not the same, [0, 1]."""
        different = self.moved + self.renamed + self.gone + self.new
        return different / max(different + self.same, 1)

    def __add__(self, other: Changes) -> Changes:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Changes(*(first + second for first, second in pairs))


def compare_labels(first: ImageLabels, second: ImageLabels) -> Changes:
    """What became of the masks of one image.

    Raises:
        InputError: the labellings are of different sizes.
    """
    if first.size_hw != second.size_hw:
        raise InputError(f"one labelling is of {first.size_hw}, the other of {second.size_hw} [height, width] pixels")
    ious = rle_ious([mask.rle for mask in first.masks], [mask.rle for mask in second.masks])
    same = moved = renamed = 0
    while ious.size and ious.max() >= MATCH_IOU:
        row, column = np.unravel_index(int(ious.argmax()), ious.shape)
        if first.masks[row].class_name != second.masks[column].class_name:
            renamed += 1
        elif ious[row, column] >= SAME_IOU:
            same += 1
        else:
            moved += 1
        ious[row, :] = ious[:, column] = 0.0
    matched = same + moved + renamed
    return Changes(same, moved, renamed, len(first.masks) - matched, len(second.masks) - matched)
