"""Labels of hand-drawn masks, for tests of evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.masks.rle import boxes_from_rles, encode_mask
from everymask.records import ImageLabels, LabelledMask


def labels(masks: Sequence[NDArray[np.bool_]], scores: Sequence[float], size_hw: tuple[int, int]) -> ImageLabels:
    rles = [encode_mask(mask) for mask in masks]
    boxes = boxes_from_rles(rles).tolist()
    records = [
        LabelledMask(
            rle=rle,
            box_xyxy=(x0, y0, x1, y1),
            area=int(mask.sum()),
            predicted_iou=score,
            stability_score=1.0,
            point_coords=(0.0, 0.0),
            score=score,
        )
        for mask, rle, (x0, y0, x1, y1), score in zip(masks, rles, boxes, scores, strict=True)
    ]
    return ImageLabels(size_hw, tuple(sorted(records, key=lambda record: -record.score)), 0.0)
