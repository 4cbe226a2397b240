"""Distinct colours for many masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN_TURN = 0.6180339887498949
# Lightness and chroma in OKLCH. Cycling them as well keeps neighbours in rank apart when hues have come round.
_LEVELS = ((0.76, 0.15), (0.62, 0.19), (0.86, 0.12))


def mask_colours(count: int) -> NDArray[np.uint8]:
    """(count, 3) uint8 RGB; colour i is the same for every count.

    Hues step by the golden ratio of a turn, so any run of them is evenly spread; OKLCH makes them equally strong.
    """
    index = np.arange(count)
    levels = np.asarray(_LEVELS)[index % len(_LEVELS)]
    hue = 2 * np.pi * ((0.08 + index * _GOLDEN_TURN) % 1.0)
    lightness, chroma = levels[:, 0], levels[:, 1]
    return _oklab_to_rgb(np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1))


def _oklab_to_rgb(oklab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(N, 3) OKLab → (N, 3) sRGB uint8, clipped to the gamut (B. Ottosson, "A perceptual color space", 2020)."""
    to_cone = np.array(
        [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((oklab @ to_cone.T) ** 3 @ to_linear.T, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    colours: NDArray[np.uint8] = np.rint(encoded * 255).astype(np.uint8)
    return colours
