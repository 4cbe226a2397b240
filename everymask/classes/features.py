"""What a class head reads of masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

FeatureKind = Literal["token", "token+pooled", "crop", "token+crop", "token+pooled+crop"]
"""The descriptions that a head reads, joined by +."""


@dataclass(frozen=True)
class MaskFeatures:
    """Descriptions of M masks. Half precision is part of the record: stored and fresh ones give the same labels.

    Attributes:
        token: (M, C) float16, SAM's mask tokens (the paper's mask embeddings).
        pooled: (M, F) float16, the backbone's image features averaged under each mask.
        crop: (M, D) float16, an ImageNet encoder's description of a crop of each mask; D is 0 without a describer.
    """

    token: NDArray[np.float16]
    pooled: NDArray[np.float16]
    crop: NDArray[np.float16]

    def __getitem__(self, index: NDArray[np.int64]) -> MaskFeatures:
        """The masks at (K,) int `index`, in that order."""
        return MaskFeatures(self.token[index], self.pooled[index], self.crop[index])

    def inputs(self, kind: FeatureKind) -> torch.Tensor:
        """The descriptions that `kind` names, side by side: (M, D) float32."""
        parts = [getattr(self, name) for name in kind.split("+")]
        return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))
