"""Pictures on which our models and their publishers' are compared."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZES = {"square": (96, 96), "wide": (60, 180), "tall": (180, 60), "odd": (97, 131)}
"""(height, width) in pixels."""


def picture(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Coloured waves with noise: something between a photograph and nothing."""
    generator = np.random.default_rng(sum(size_hw))
    ys, xs = np.mgrid[: size_hw[0], : size_hw[1]]
    waves = 128 + 100 * np.sin(xs[..., None] / [9, 15, 23] + ys[..., None] / [17, 11, 29])
    noisy: NDArray[np.uint8] = np.clip(waves + generator.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)
    return noisy
