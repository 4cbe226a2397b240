"""How far two programs' answers agree, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from everymask.masks.rle import rle_areas, rle_ious
from everymask.records import Rle
from everymask_cli.selftest.task import Answers, PictureAnswers

SAME_MASK_IOU = 0.99


@dataclass(frozen=True)
class Agreement:
    """How far the answers for one picture agree.

    Attributes:
        mean_iou: of the masks of clicks, in [0, 1].
        worst_iou: the least of them.
        iou_difference: the largest between predicted IoUs.
        matched: share of the publisher's automatic masks that have one of ours with an IoU of at least 0.99; None where
            it has no automatic masks.
        automatic: number of the publisher's automatic masks and of ours.
    """

    mean_iou: float
    worst_iou: float
    iou_difference: float
    matched: float | None
    automatic: tuple[int, int]


@dataclass(frozen=True)
class Limits:
    """The least agreement: on each picture, but for the mean IoU and `matched`, which are of all pictures."""

    mean_iou: float
    worst_iou: float
    iou_difference: float
    matched: float


LIMITS: Mapping[str, Limits] = {
    "fp32": Limits(mean_iou=0.999, worst_iou=0.95, iou_difference=1e-3, matched=0.98),
    # Half precision moves borders, and masks across a threshold.
    "fp16": Limits(mean_iou=0.99, worst_iou=0.5, iou_difference=0.02, matched=0.9),
    "bf16": Limits(mean_iou=0.97, worst_iou=0.5, iou_difference=0.05, matched=0.8),
}
"""By the precision of our image encoder; the publishers' compute in fp32."""
LIMITS_OF_RANDOM_WEIGHTS = Limits(mean_iou=0.99, worst_iou=0.9, iou_difference=0.02, matched=0.9)
"""Their masks are noise, in which rounding grows from layer to layer: in fp32, too."""


def compare(theirs: PictureAnswers, ours: PictureAnswers) -> Agreement:
    """Compare the answers for one picture."""
    pairs = [
        _iou(a, b)
        for first, second in zip(theirs.masks, ours.masks, strict=True)
        for a, b in zip(first, second, strict=True)
    ]
    difference = np.abs(np.array(theirs.predicted_iou) - np.array(ours.predicted_iou)).max()
    matched, counts = None, (0, len(ours.automatic or []))
    if theirs.automatic is not None:
        best = rle_ious(theirs.automatic, ours.automatic or []).max(axis=1, initial=0)
        matched = float((best >= SAME_MASK_IOU).mean()) if len(best) else 1.0
        counts = len(theirs.automatic), counts[1]
    return Agreement(float(np.mean(pairs)), float(np.min(pairs)), float(difference), matched, counts)


def _iou(first: Rle, second: Rle) -> float:
    """The IoU of two masks; 1 where both are empty."""
    if not rle_areas([first, second]).any():
        return 1.0
    return float(rle_ious([first], [second])[0, 0])


def agreements(theirs: Answers, ours: Answers) -> dict[str, Agreement]:
    """By picture."""
    return {name: compare(picture, ours.pictures[name]) for name, picture in theirs.pictures.items()}


def disagreements(found: Mapping[str, Agreement], limits: Limits) -> list[str]:
    """A sentence for each limit that is not kept; none if the programs agree."""
    said = []
    mean = float(np.mean([agreement.mean_iou for agreement in found.values()]))
    if mean < limits.mean_iou:
        said.append(f"masks of clicks have a mean IoU of {mean:.4f}, below {limits.mean_iou}")
    for name, agreement in found.items():
        if agreement.worst_iou < limits.worst_iou:
            said.append(f"{name}: a mask has an IoU of {agreement.worst_iou:.4f}, below {limits.worst_iou}")
        if agreement.iou_difference > limits.iou_difference:
            said.append(
                f"{name}: predicted IoUs differ by {agreement.iou_difference:.2g}, above {limits.iou_difference:g}"
            )
    theirs = sum(agreement.automatic[0] for agreement in found.values() if agreement.matched is not None)
    agreeing = sum(
        agreement.matched * agreement.automatic[0] for agreement in found.values() if agreement.matched is not None
    )
    ours = sum(agreement.automatic[1] for agreement in found.values() if agreement.matched is not None)
    if theirs and agreeing / theirs < limits.matched:
        said.append(f"{agreeing / theirs:.1%} of {theirs} automatic masks are found again, below {limits.matched:.0%}")
    if abs(ours - theirs) > (1 - limits.matched) * theirs + 1:
        said.append(f"there are {ours} automatic masks where there should be {theirs}")
    return said
