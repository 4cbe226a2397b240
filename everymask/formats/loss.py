"""What an export lost, measured: masks as its readers find them against masks of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pycocotools import mask as coco_mask

from everymask.masks.rle import rle_ious
from everymask.records import LabelledMask, Rle

_SHARED = 1e-9


@dataclass
class Loss:
    """Sums over the masks of an export.

    Attributes:
        masks: compared.
        changed: masks that are not what they were, to the pixel.
        vanished: masks of which nothing is left.
        overlapping: masks that shared pixels with another mask of their image, where the format gives every pixel to
            one mask.
        worst_iou: lowest IoU of a written mask with the stored one, [0, 1]; 1 without masks.
        worst: image id of that mask.
    """

    masks: int = 0
    changed: int = 0
    vanished: int = 0
    overlapping: int = 0
    worst_iou: float = 1.0
    worst: str = ""
    _sum: float = field(default=0.0, repr=False)

    @property
    def mean_iou(self) -> float:
        """Over all masks, [0, 1]; 1 without masks."""
        return self._sum / self.masks if self.masks else 1.0

    def add(self, image_id: str, stored: Sequence[LabelledMask], written: Sequence[Rle], overlaps_kept: bool) -> None:
        """Compare the masks of one image.

        Raises:
            ValueError: not one written mask for each stored one.
        """
        different = False
        for mask, found in zip(stored, written, strict=True):
            iou = 1.0 if mask.rle["counts"] == found["counts"] else float(rle_ious([mask.rle], [found])[0, 0])
            if iou < 1.0:
                different = True
                self.changed += 1
                self.vanished += iou == 0.0
            if iou < self.worst_iou:
                self.worst_iou, self.worst = iou, image_id
            self._sum += iou
        self.masks += len(stored)
        if different and not overlaps_kept:
            self.overlapping += count_overlapping([mask.rle for mask in stored])

    def merge(self, other: Loss) -> None:
        """Add what other images of the export lost."""
        self.masks += other.masks
        self.changed += other.changed
        self.vanished += other.vanished
        self.overlapping += other.overlapping
        self._sum += other._sum
        if other.worst_iou < self.worst_iou:
            self.worst_iou, self.worst = other.worst_iou, other.worst


def count_overlapping(rles: Sequence[Rle]) -> int:
    """How many of these masks of one image share a pixel with another of them."""
    if len(rles) < 2:
        return 0
    total = sum(int(area) for rle in rles for area in [coco_mask.area(rle)])
    if total == int(coco_mask.area(coco_mask.merge(list(rles)))):
        return 0
    shared = rle_ious(rles, rles) > _SHARED
    return int((shared.sum(axis=1) > 1).sum())
