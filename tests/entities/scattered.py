"""A tiny SAM with many different masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from segment_anything.modeling import Sam

from everymask.backbone.sam import build_sam
from everymask.entities.config import AmgConfig
from tests.tiny_sam import TINY

LOOSE = AmgConfig(points_per_side=8, points_per_batch=10, stability_score_offset=0.05)


def scattered_sam() -> Sam:
    """A tiny SAM whose masks are few spots instead of half the image, so that their boxes differ."""
    sam = build_sam(TINY, seed=5)
    # One up-scaled channel is made constant, and every mask's filter is given the same negative weight on it.
    second = sam.mask_decoder.output_upscaling[3]
    second.weight[:, 0], second.bias[0] = 0, 3
    for network in sam.mask_decoder.output_hypernetworks_mlps:
        network.layers[-1].weight[0], network.layers[-1].bias[0] = 0, -1.5
    return sam


def random_image(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
