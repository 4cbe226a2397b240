"""Whether `uncertainty` tells of masks that have the wrong name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks
from everymask.classes.uncertainty import normalised_entropy
from everymask.evaluation.ground_truth import ClassTruth
from everymask.masks.rle import rle_ious


def doubt_correlation(
    head: ClassHead, images: Mapping[str, StoredEmbeddings], truth: Mapping[str, ClassTruth], classes: Sequence[str]
) -> float:
    """Pearson correlation of `uncertainty` with being misnamed (0 or 1), over masks that match an object at IoU 0.5."""
    doubts, wrong = [], []
    for name, record in images.items():
        objects = [item for item in truth[name].instances if not item.iscrowd]
        ious = rle_ious(record.embeddings.rles, [item.rle for item in objects])
        if not ious.size:
            continue
        probabilities = head.probabilities(record.embeddings.features)
        named = [(*head.spec.classes, "")[index] for index in probabilities.argmax(dim=-1).tolist()]
        matched = ious.max(axis=1) >= 0.5
        doubts += normalised_entropy(probabilities).numpy()[matched].tolist()
        right = [classes[objects[best].class_id] for best in ious.argmax(axis=1).tolist()]
        wrong += [named[i] != right[i] for i in np.flatnonzero(matched)]
    return float(np.corrcoef(doubts, wrong)[0, 1])


def labelled_doubt_correlation(
    head: ClassHead,
    images: Mapping[str, StoredEmbeddings],
    truth: Mapping[str, ClassTruth],
    classes: Sequence[str],
    config: ClassesConfig,
) -> float:
    """The same over the masks that are labelled, of which alone a user sees `uncertainty`."""
    doubts: list[float] = []
    wrong: list[bool] = []
    for name, record in images.items():
        masks = classify_masks(record.embeddings, head, config).masks
        objects = [item for item in truth[name].instances if not item.iscrowd]
        ious = rle_ious([mask.rle for mask in masks], [item.rle for item in objects])
        for mask, overlaps in zip(masks, ious, strict=True) if ious.size else ():
            if overlaps.max() >= 0.5:
                doubts.append(mask.uncertainty or 0.0)
                wrong.append(mask.class_name != classes[objects[int(overlaps.argmax())].class_id])
    return float(np.corrcoef(doubts, wrong)[0, 1])
