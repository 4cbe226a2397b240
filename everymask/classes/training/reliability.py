"""Whether a head's probabilities and its uncertainty can be trusted, by its errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from everymask.classes.head import ClassHead
from everymask.classes.training.bags import Bags
from everymask.classes.uncertainty import auroc, normalised_entropy

_BINS = 10


@dataclass(frozen=True)
class ReliabilityBin:
    """Masks of about the same probability.

    Attributes:
        probability: their mean probability, [0, 1].
        right: share of them with the right name, [0, 1]; equal to `probability` for a calibrated head.
        count: their number.
    """

    probability: float
    right: float
    count: int


@dataclass(frozen=True)
class Reliability:
    """Probabilities against truth.

    Attributes:
        bins: of equal width, by probability, without empty ones.
        calibration_error: mean distance of probability and share, weighted by count (expected calibration error, Guo et
            al. 2017, arXiv:1706.04599), [0, 1].
        wrong_name_auroc: how well uncertainty tells wrong masks from right ones; None if all are right, or all wrong.
    """

    bins: tuple[ReliabilityBin, ...]
    calibration_error: float
    wrong_name_auroc: float | None


@torch.no_grad()
def held_out_reliability(head: ClassHead, held_out: Bags) -> Reliability | None:
    """How a head names masks of held-out pictures; None if it takes all of them for background.

    A mask is right if its likeliest class is that of its picture. The same rule holds for the surroundings of the
    object, so a mask of the floor that is taken for the picture's class counts as right.
    """
    if not len(held_out):
        return None
    probabilities = head(held_out.inputs).softmax(dim=-1)
    likelihood, named = probabilities.max(dim=-1)
    is_object = named < head.num_classes
    if not bool(is_object.any()):
        return None
    right = named == held_out.mask_class_ids
    return reliability(likelihood[is_object], normalised_entropy(probabilities[is_object]), right[is_object])


def reliability(likelihood: torch.Tensor, uncertainty: torch.Tensor, right: torch.Tensor) -> Reliability:
    """Compare a head's answers with the truth.

    Args:
        likelihood: (K,) float, the probability of each mask's likeliest class; K is at least 1.
        uncertainty: (K,) float, [0, 1].
        right: (K,) bool, whether that class is the true one.
    """
    index = (likelihood * _BINS).long().clamp_max(_BINS - 1)
    bins = tuple(
        ReliabilityBin(float(likelihood[inside].mean()), float(right[inside].float().mean()), int(inside.sum()))
        for inside in (index == number for number in range(_BINS))
        if bool(inside.any())
    )
    error = sum(abs(each.probability - each.right) * each.count for each in bins) / len(likelihood)
    return Reliability(bins, error, auroc(uncertainty.numpy(), ~right.numpy()))
