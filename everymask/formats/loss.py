"""Measures what an export lost: masks as its readers get them, compared with the store's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pycocotools import mask as coco_mask

from everymask.masks.rle import paired_ious, rle_ious
from everymask.records import LabelledMask, Rle

_SHARED = 1e-9


@dataclass
class Loss:
    """Totals over the masks of an export.

    Attributes:
        masks: number compared.
        changed: masks that differ from the store by any pixel.
        vanished: masks of which nothing is left.
        overlapping: masks that shared pixels with another mask, where the format keeps only one mask a pixel.
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
        """Mean IoU over all masks, [0, 1]; 1 without masks."""
        return self._sum / self.masks if self.masks else 1.0

    def add(self, image_id: str, stored: Sequence[LabelledMask], written: Sequence[Rle], overlaps_kept: bool) -> None:
        """Compare one image's masks; ValueError unless `stored` and `written` have equal lengths."""
        changed = [
            (mask.rle, found)
            for mask, found in zip(stored, written, strict=True)
            if mask.rle["counts"] != found["counts"]
        ]
        ious = paired_ious(*zip(*changed, strict=True)).tolist() if changed else []
        different = False
        for iou in ious:
            if iou < 1.0:
                different = True
                self.changed += 1
                self.vanished += iou == 0.0
            if iou < self.worst_iou:
                self.worst_iou, self.worst = iou, image_id
        self._sum += sum(ious) + len(stored) - len(changed)
        self.masks += len(stored)
        if different and not overlaps_kept:
            self.overlapping += count_overlapping([mask.rle for mask in stored])

    def merge(self, other: Loss) -> None:
        """Add another part of the export."""
        self.masks += other.masks
        self.changed += other.changed
        self.vanished += other.vanished
        self.overlapping += other.overlapping
        self._sum += other._sum
        if other.worst_iou < self.worst_iou:
            self.worst_iou, self.worst = other.worst_iou, other.worst


def count_overlapping(rles: Sequence[Rle]) -> int:
    """How many of one image's masks share a pixel with another."""
    if len(rles) < 2:
        return 0
    total = sum(int(area) for rle in rles for area in [coco_mask.area(rle)])
    if total == int(coco_mask.area(coco_mask.merge(list(rles)))):
        return 0
    shared = rle_ious(rles, rles) > _SHARED
    return int((shared.sum(axis=1) > 1).sum())
