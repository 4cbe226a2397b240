"""Masks that may overlap, painted into one map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from everymask.masks.runs import pixels_between, runs_of_rles
from everymask.records import ImageLabels


def label_map_by_score(labels: ImageLabels) -> NDArray[np.int32]:
    """(H, W) int32 index of the highest-scoring mask at each pixel, the first of equals; -1 where there is none."""
    height, width = labels.size_hw
    columns = np.full(height * width, -1, dtype=np.int32)
    runs = runs_of_rles([mask.rle for mask in labels.masks])
    for index in sorted(range(len(labels.masks)), key=lambda index: (labels.masks[index].score, -index)):
        start, stop = _span(runs[index])
        np.copyto(columns[start:stop], index, where=pixels_between(runs[index], start, stop))
    return np.ascontiguousarray(columns.reshape(width, height).T)


def _span(runs: NDArray[np.int64]) -> tuple[int, int]:
    """The first pixel of the foreground, and the one after its last."""
    background_after = int(runs[-1]) if len(runs) % 2 else 0
    return (int(runs[0]), int(runs.sum()) - background_after) if len(runs) > 1 else (0, 0)


def semantic_map(labels: ImageLabels) -> NDArray[np.int32]:
    """(H, W) int32 class_id + 1 of the highest-scoring mask at each pixel; 0, background, where there is none.

    Masks without a class are left out.
    """
    masks = tuple(mask for mask in labels.masks if mask.class_id is not None)
    # The last value is read by index -1.
    values = np.array([*(int(mask.class_id or 0) + 1 for mask in masks), 0], dtype=np.int32)
    painted: NDArray[np.int32] = values[label_map_by_score(replace(labels, masks=masks))]
    return painted
