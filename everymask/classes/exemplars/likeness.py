"""Whether the exemplars of a class all look alike; if so, the class is found only where it looks like them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from everymask.classes.describers.imagenet import imagenet_describer

ALIKE = 0.65
"""In twelve measured classes of photographs, those above this were all shown from one side (cars 0.75, faces 0.72,
motorcycles 0.71); the others had 0.32 to 0.59."""
MIN_PICTURES = 8
"""Fewer pictures say too little."""


def likeness(pictures: Sequence[NDArray[np.uint8]], device: torch.device) -> float | None:
    """Mean cosine similarity, [-1, 1], of all pairs of (H, W, 3) uint8 RGB pictures to an ImageNet encoder.

    None for fewer than `MIN_PICTURES`.

    Raises:
        CheckpointError: the encoder's package is missing, or holds other weights.
    """
    if len(pictures) < MIN_PICTURES:
        return None
    described = normalize(imagenet_describer(device).describe_pictures(pictures), dim=1)
    count = len(described)
    # The sum over all pairs is the squared length of the sum; each picture is as long as 1 with itself.
    return float((described.sum(dim=0).square().sum() - count) / (count * (count - 1)))
