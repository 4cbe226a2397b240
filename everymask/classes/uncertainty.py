"""The uncertainty of a distribution over classes, and how well a measure of doubt predicts errors."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray


def normalised_entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """(…, K) distributions, K at least 2 → (…,) entropy divided by log K, in [0, 1]."""
    entropy: torch.Tensor = torch.special.entr(probabilities).sum(dim=-1)
    return (entropy / math.log(probabilities.shape[-1])).clamp(0, 1)


def auroc(value: NDArray[np.floating], is_positive: NDArray[np.bool_]) -> float | None:
    """The chance that a positive has a greater value than a negative (area under the ROC curve); equal ones count half.

    Args:
        value: (K,) float.
        is_positive: (K,) bool.

    Returns:
        in [0, 1]; None where all are of one kind.
    """
    positives = int(is_positive.sum())
    negatives = len(is_positive) - positives
    if not positives or not negatives:
        return None
    from scipy.stats import rankdata  # here: half a second of every worker's start, and no worker calls this

    ranks = rankdata(value)[is_positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))
