"""Squares of colours side by side, with the classes that they show: masks to name, and their ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.features import MaskFeatures
from everymask.evaluation.ground_truth import ClassTruth
from everymask.evaluation.ground_truth.records import InstanceTruth
from everymask.masks.rle import encode_mask

SIZE = (20, 60)
"""Six squares side by side."""


def square(column: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, dtype=bool)
    mask[:, 10 * column : 10 * column + 10] = True
    return mask


def between(first: tuple[int, ...], second: tuple[int, ...], share: float) -> NDArray[np.float64]:
    return ((1 - share) * np.array(first) + share * np.array(second)) / 255


def truth_of(objects: dict[int, tuple[NDArray[np.bool_], int]]) -> ClassTruth:
    instances = (InstanceTruth(class_id, encode_mask(mask), float(mask.sum())) for mask, class_id in objects.values())
    return ClassTruth(SIZE, tuple(instances), np.zeros(SIZE, dtype=np.int32))


def described_by(colours: Sequence[NDArray[np.float64]]) -> MaskEmbeddings:
    """Squares side by side with these tokens, all of predicted IoU 1."""
    count = len(colours)
    ones, nothing = np.ones(count, dtype=np.float32), np.zeros((count, 0), dtype=np.float16)
    return MaskEmbeddings(
        SIZE,
        MaskFeatures(np.array(colours, dtype=np.float16), nothing, nothing),
        predicted_iou=ones,
        stability_score=ones,
        frame_share=ones,
        occupancy=np.zeros((count, 256), dtype=np.uint8),
        point_coords=np.zeros((count, 2), dtype=np.float32),
        rles=tuple(encode_mask(square(column)) for column in range(count)),
        backbone="colour",
        weights_sha256="a" * 64,
    )
