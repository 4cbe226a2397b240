"""Masks that may overlap, painted into one map."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.masks.runs import spans_of_rles
from everymask.records import ImageLabels


def painted(labels: ImageLabels, values: NDArray[Any]) -> NDArray[Any]:
    """(H, W) map of the value of the highest-scoring mask at each pixel; ties go to the first mask.

    `values` is (N + 1,): one for each of the N masks, then the one for uncovered pixels.
    """
    (height, width), masks = labels.size_hw, labels.masks
    starts, stops, owners = spans_of_rles([mask.rle for mask in masks])
    starts, stops = starts - owners * (height * width), stops - owners * (height * width)
    order = np.argsort(starts)
    edges = np.stack([starts[order], stops[order]], axis=1).reshape(-1)
    lengths = np.diff(edges, prepend=0, append=height * width)
    if lengths.min() >= 0:  # no two masks share a pixel
        of_runs = np.full(lengths.size, values[-1])
        of_runs[1::2] = values[owners[order]]
        columns = np.repeat(of_runs, lengths)
    else:
        columns = np.full(height * width, values[-1])
        ranks = np.empty(len(masks), dtype=np.int64)
        ranks[np.lexsort([-np.arange(len(masks)), np.array([mask.score for mask in masks])])] = np.arange(len(masks))
        order = np.argsort(ranks[owners], kind="stable")
        of_spans = values[owners[order]].tolist()
        for start, stop, value in zip(starts[order].tolist(), stops[order].tolist(), of_spans, strict=True):
            columns[start:stop] = value
    return np.ascontiguousarray(columns.reshape(width, height).T)


def label_map_by_score(labels: ImageLabels) -> NDArray[np.int32]:
    """(H, W) int32 index of the highest-scoring mask at each pixel (ties: the first); -1 where there is none."""
    return painted(labels, np.array([*range(len(labels.masks)), -1], dtype=np.int32))


def semantic_map(labels: ImageLabels) -> NDArray[np.int32]:
    """(H, W) int32 class_id + 1 of the highest-scoring mask with a class at each pixel; 0 is background."""
    masks = tuple(mask for mask in labels.masks if mask.class_id is not None)
    values = np.array([*(int(mask.class_id or 0) + 1 for mask in masks), 0], dtype=np.int32)
    return painted(replace(labels, masks=masks), values)
