"""Labels of hand-drawn masks, for tests of evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels, LabelledMask


def labels(masks: Sequence[NDArray[np.bool_]], scores: Sequence[float], size_hw: tuple[int, int]) -> ImageLabels:
    records = [
        LabelledMask(
            rle=encode_mask(mask),
            box_xyxy=(0, 0, 1, 1),
            area=int(mask.sum()),
            predicted_iou=score,
            stability_score=1.0,
            point_coords=(0.0, 0.0),
            score=score,
        )
        for mask, score in zip(masks, scores, strict=True)
    ]
    return ImageLabels(size_hw, tuple(sorted(records, key=lambda record: -record.score)), 0.0)
