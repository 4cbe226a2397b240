"""How unsure a distribution over classes is."""

from __future__ import annotations

import math

import torch


def normalised_entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """(…, K) distributions, K at least 2 → (…,) entropy divided by log K, in [0, 1]."""
    entropy: torch.Tensor = torch.special.entr(probabilities).sum(dim=-1)
    return (entropy / math.log(probabilities.shape[-1])).clamp(0, 1)
