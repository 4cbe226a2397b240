"""Labels whose masks overlap, brought to a map in which every pixel has one mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pycocotools import mask as coco_mask

from everymask.masks.painting import label_map_by_score
from everymask.masks.rle import boxes_from_rles, encode_label_map, rle_areas
from everymask.records import ImageLabels, LabelledMask


def overlapping_pixels(masks: Sequence[LabelledMask]) -> int:
    """How many pixels more the masks have together than their union."""
    if not masks:
        return 0
    rles = [mask.rle for mask in masks]
    return int(rle_areas(rles).sum()) - int(coco_mask.area(coco_mask.merge(rles)))


def resolve_overlaps(labels: ImageLabels) -> ImageLabels:
    """The same masks made disjoint: a pixel in several stays in the one with the highest score.

    This is how overlapping results, AMG's above all, are brought to the non-overlapping map that entity segmentation
    asks for. A mask of which nothing is left is dropped.
    """
    rles = encode_label_map(label_map_by_score(labels), len(labels.masks))
    areas, boxes = rle_areas(rles).tolist(), boxes_from_rles(rles).tolist()
    masks = tuple(
        replace(mask, rle=rle, area=area, box_xyxy=tuple(box))
        for mask, rle, area, box in zip(labels.masks, rles, areas, boxes, strict=True)
        if area
    )
    return replace(labels, masks=masks)
