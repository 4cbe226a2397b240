"""Segmentation covering: how well regions cover those people drew (Arbeláez et al., PAMI 2011, section 3.2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.errors import InputError
from everymask.masks.painting import label_map_by_score
from everymask.records import ImageLabels


@dataclass(frozen=True)
class Covering:
    """Covering over a set of images.

    Attributes:
        mean: over an image's annotators, then over images, in [0, 1].
        best: likewise with each image's closest annotator, because people draw at different granularities.
        images: number evaluated.
    """

    mean: float
    best: float
    images: int


def covering(segments: NDArray[np.integer], truth: NDArray[np.integer]) -> float:
    """Covering of a human segmentation by predicted regions, in [0, 1].

    Each true region counts by its area times the IoU of the best-fitting region.

    Args:
        segments: (H, W) regions; negative values belong to none.
        truth: (H, W) labels, all pixels labelled.
    """
    _, true_index = np.unique(truth, return_inverse=True)
    names, index = np.unique(segments, return_inverse=True)
    shape = (int(true_index.max()) + 1, names.size)
    pairs = true_index.ravel() * names.size + index.ravel()
    inter = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    true_areas = inter.sum(axis=1)
    iou = inter / (true_areas[:, None] + inter.sum(axis=0) - inter)
    iou[:, names < 0] = 0
    return float((true_areas * iou.max(axis=1)).sum() / true_areas.sum())


def segmentation_covering(
    predictions: Mapping[str, ImageLabels], truth: Mapping[str, Sequence[NDArray[np.integer]]]
) -> Covering:
    """Covering of all annotators' segmentations in `truth`; an image without a prediction counts 0.

    Raises:
        InputError: a predicted image is not in the ground truth, or is of another size.
    """
    for name, labels in predictions.items():
        if name not in truth:
            raise InputError(f"image {name} is not in the ground truth; evaluate labels of the annotated images")
        if tuple(labels.size_hw) != truth[name][0].shape:
            raise InputError(
                f"labels of {name} are for {labels.size_hw} pixels, its ground truth for {truth[name][0].shape}"
            )
    means, bests = [], []
    for name, annotators in truth.items():
        if name not in predictions:
            means.append(0.0)
            bests.append(0.0)
            continue
        segments = label_map_by_score(predictions[name])
        values = [covering(segments, annotator) for annotator in annotators]
        means.append(float(np.mean(values)))
        bests.append(max(values))
    return Covering(float(np.mean(means)) if means else 0.0, float(np.mean(bests)) if bests else 0.0, len(means))
