"""Makes overlapping masks disjoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pycocotools import mask as coco_mask

from everymask.masks.painting import label_map_by_score
from everymask.masks.rle import boxes_from_rles, encode_label_map, rle_areas
from everymask.records import ImageLabels, LabelledMask


def overlapping_pixels(masks: Sequence[LabelledMask]) -> int:
    """The masks' areas summed, minus the area of their union."""
    if not masks:
        return 0
    rles = [mask.rle for mask in masks]
    return int(rle_areas(rles).sum()) - int(coco_mask.area(coco_mask.merge(rles)))


def resolve_overlaps(labels: ImageLabels) -> ImageLabels:
    """The same masks made disjoint: a shared pixel stays with the highest score.

    Entity segmentation asks for a map without overlaps, and this makes one from overlapping results such as AMG's.
    Masks that lose all pixels are dropped.
    """
    rles = encode_label_map(label_map_by_score(labels), len(labels.masks))
    areas, boxes = rle_areas(rles).tolist(), boxes_from_rles(rles).tolist()
    masks = tuple(
        replace(mask, rle=rle, area=area, box_xyxy=tuple(box))
        for mask, rle, area, box in zip(labels.masks, rles, areas, boxes, strict=True)
        if area
    )
    return replace(labels, masks=masks)
