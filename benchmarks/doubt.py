"""Whether `uncertainty` tells of masks that have the wrong name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks
from everymask.classes.training.reliability import error_correlation
from everymask.classes.uncertainty import normalised_entropy
from everymask.evaluation.ground_truth import ClassTruth
from everymask.masks.rle import rle_ious
from everymask.records import Rle


def doubt_correlation(
    head: ClassHead, images: Mapping[str, StoredEmbeddings], truth: Mapping[str, ClassTruth], classes: Sequence[str]
) -> float | None:
    """`error_correlation` of being misnamed, over masks that match an object at IoU 0.5."""
    doubts: list[float] = []
    right: list[bool] = []
    for name, record in images.items():
        probabilities = head.probabilities(record.embeddings.features)
        uncertainty = normalised_entropy(probabilities).tolist()
        named = [(*head.spec.classes, "")[index] for index in probabilities.argmax(dim=-1).tolist()]
        for index, true_name in _matches(record.embeddings.rles, truth[name], classes):
            doubts.append(uncertainty[index])
            right.append(named[index] == true_name)
    return error_correlation(torch.tensor(doubts), torch.tensor(right, dtype=torch.bool))


def labelled_doubt_correlation(
    head: ClassHead,
    images: Mapping[str, StoredEmbeddings],
    truth: Mapping[str, ClassTruth],
    classes: Sequence[str],
    config: ClassesConfig,
) -> float | None:
    """The same over the masks that are labelled, of which alone a user sees `uncertainty`."""
    doubts: list[float] = []
    right: list[bool] = []
    for name, record in images.items():
        masks = classify_masks(record.embeddings, head, config).masks
        for index, true_name in _matches([mask.rle for mask in masks], truth[name], classes):
            doubts.append(masks[index].uncertainty or 0.0)
            right.append(masks[index].class_name == true_name)
    return error_correlation(torch.tensor(doubts), torch.tensor(right, dtype=torch.bool))


def _matches(rles: Sequence[Rle], truth: ClassTruth, classes: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Each mask that matches an object, by its index, with the name of the object that it overlaps most."""
    objects = [item for item in truth.instances if not item.iscrowd]
    ious = rle_ious(rles, [item.rle for item in objects])
    if ious.size:
        for index in np.flatnonzero(ious.max(axis=1) >= 0.5).tolist():
            yield index, classes[objects[int(ious[index].argmax())].class_id]
