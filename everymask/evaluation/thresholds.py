"""A score threshold for each class, chosen on annotated images."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from everymask.evaluation.ground_truth import ClassTruth
from everymask.masks.rle import rle_ious
from everymask.records import ImageLabels, LabelledMask

MATCH_IOU = 0.5
MIN_OBJECTS = 5
"""A class with fewer annotated objects keeps its threshold; one chosen on a few would not carry over (our choice)."""


@dataclass(frozen=True)
class Judged:
    """One class's masks compared with the truth.

    Attributes:
        probabilities: (N,) of the class, from the head, descending.
        right: (N,) whether a mask is the best one of an object of the class, at IoU 0.5.
        objects: number annotated.
    """

    probabilities: Sequence[float]
    right: Sequence[bool]
    objects: int

    def f1(self, threshold: float) -> float:
        """Harmonic mean of precision and recall of the masks at or above a threshold, [0, 1]."""
        kept = [
            right for probability, right in zip(self.probabilities, self.right, strict=True) if probability >= threshold
        ]
        return 2 * sum(kept) / max(len(kept) + self.objects, 1)


def is_for_choosing(image_id: str) -> bool:
    """Whether an image is used to choose thresholds (half of all, by id alone) and not to measure them."""
    return hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).digest()[0] < 128


def judge(
    labels: Mapping[str, ImageLabels],
    truth: Mapping[str, ClassTruth],
    classes: Sequence[str],
    images: Collection[str],
    by_iou: bool,
) -> dict[str, Judged]:
    """Masks of each class on some images, right or wrong.

    Args:
        labels: by image id.
        truth: by image id, class_id an index into `classes`.
        images: ids of `truth`.
        by_iou: whether a mask's score is its probability times its predicted IoU.
    """
    found = {}
    for class_id, name in enumerate(classes):
        listed: list[tuple[float, bool]] = []
        objects = 0
        for image_id in images:
            rles = [one.rle for one in truth[image_id].instances if one.class_id == class_id and not one.iscrowd]
            objects += len(rles)
            image = labels.get(image_id)
            masks = [mask for mask in image.masks if mask.class_name == name] if image else []
            ious = rle_ious([mask.rle for mask in masks], rles)
            for number, mask in enumerate(masks):
                best = int(ious[number].argmax()) if rles else 0
                right = bool(rles) and ious[number, best] >= MATCH_IOU
                if right:
                    ious[:, best] = 0.0  # an object is found once, by the mask of the highest score
                listed.append((_probability(mask, by_iou), right))
        listed.sort(key=lambda pair: -pair[0])
        found[name] = Judged([one for one, _ in listed], [right for _, right in listed], objects)
    return found


def best_threshold(judged: Judged) -> float | None:
    """The lowest threshold with the highest F1; None for a class with too few objects or masks."""
    if judged.objects < MIN_OBJECTS or not judged.probabilities:
        return None
    kept = np.arange(1, len(judged.right) + 1)
    f1 = 2 * np.cumsum(judged.right) / (kept + judged.objects)
    best = len(f1) - 1 - int(f1[::-1].argmax())
    below = judged.probabilities[best + 1] if best + 1 < len(f1) else 0.0
    # Between the last mask that is kept and the first that is not; the run's own threshold lies below all.
    return float((judged.probabilities[best] + below) / 2) if below else 0.0


def _probability(mask: LabelledMask, by_iou: bool) -> float:
    iou = mask.predicted_iou
    return min(1.0, mask.score / iou) if by_iou and iou is not None and iou > 0 else mask.score
