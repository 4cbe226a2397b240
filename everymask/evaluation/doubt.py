"""Whether doubt finds errors: masks with a wrong name, and objects that were left out.

A head errs in two ways, each with its own doubt. A mask that it calls an object may have the wrong name; the entropy of
its classes (`uncertainty`) measures that. A mask that it calls background may be an object; its top class probability
times its predicted IoU (summed over an image: `missed`) measures that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import object_evidence
from everymask.classes.uncertainty import auroc, normalised_entropy
from everymask.evaluation.ground_truth import ClassTruth
from everymask.masks.rle import rle_ious

MATCH_IOU = 0.5
"""A mask with at least this IoU with an object shows it."""
APART_IOU = 0.1
"""A mask below this IoU with every object shows none; masks in between are not judged."""


@dataclass(frozen=True)
class DoubtFigures:
    """How well doubt orders masks: 0.5 is chance, None means that one kind is missing.

    Attributes:
        wrong_name: AUROC of the entropy over masks that are called an object and show one: do wrong names have more?
        named: number of these.
        wrong: how many of them have the wrong name.
        missed_object: AUROC of top class probability times predicted IoU over masks that are called background and show
            an object or none: do objects have more?
        background: number of these.
        missed: how many of them show an object.
    """

    wrong_name: float | None
    named: int
    wrong: int
    missed_object: float | None
    background: int
    missed: int


def doubt_figures(
    head: ClassHead, images: Mapping[str, MaskEmbeddings], truth: Mapping[str, ClassTruth], classes: Sequence[str]
) -> DoubtFigures:
    """Judge a head's doubts on annotated images.

    Args:
        images: mask embeddings by image name.
        truth: by the same names, class_id an index into `classes`.
        classes: the annotated classes; any other name is wrong.
    """
    entropy, wrong, evidence, missed = (np.zeros(0) for _ in range(4))
    for name, masks in images.items():
        objects = [item for item in truth[name].instances if not item.iscrowd]
        if not objects or not len(masks):
            continue
        ious = rle_ious(masks.rles, [item.rle for item in objects])
        best = ious.max(axis=1)
        shown = np.array([classes[item.class_id] for item in objects])[ious.argmax(axis=1)]
        probabilities = head.probabilities(masks.features)
        called = np.array([*head.spec.classes, ""])[probabilities.argmax(dim=1).numpy()]
        judged = (called != "") & (best >= MATCH_IOU)
        entropy = np.append(entropy, normalised_entropy(probabilities).numpy()[judged])
        wrong = np.append(wrong, (called != shown)[judged])
        judged = (called == "") & ((best >= MATCH_IOU) | (best < APART_IOU))
        evidence = np.append(evidence, object_evidence(probabilities, torch.from_numpy(masks.predicted_iou))[judged])
        missed = np.append(missed, (best >= MATCH_IOU)[judged])
    return DoubtFigures(
        auroc(entropy, wrong.astype(bool)),
        len(wrong),
        int(wrong.sum()),
        auroc(evidence, missed.astype(bool)),
        len(missed),
        int(missed.sum()),
    )
