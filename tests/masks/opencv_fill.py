"""What `cv2.fillPoly` draws, followed step by step: the slow truth for polygons through pixel centres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def line(x0: int, y0: int, x1: int, y1: int) -> list[tuple[int, int]]:
    """Pixels of OpenCV's `LineIterator` with eight neighbours, from left to right, step by step."""
    if x1 < x0:
        x0, y0, x1, y1 = x1, y1, x0, y0
    wide, tall, down = x1 - x0, abs(y1 - y0), 1 if y1 >= y0 else -1
    steep = tall > wide
    major, minor = (tall, wide) if steep else (wide, tall)
    error, x, y = major - 2 * minor, x0, y0
    pixels = [(x, y)]
    for _ in range(major):
        aside = error < 0
        error += 2 * major * aside - 2 * minor
        x += aside if steep else 1
        y += down if steep else down * aside
        pixels.append((x, y))
    return pixels


def draw(polygon: NDArray[np.int64], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The lines, and every pixel with an odd number of edges to its left, as `cv2.fillPoly` finds them."""
    drawn, inside = np.zeros(size_hw, dtype=np.bool_), np.zeros(size_hw, dtype=np.bool_)
    corners = polygon.tolist()
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        for x, y in line(x0, y0, x1, y1):
            drawn[y, x] = True
        for row in range(min(y0, y1), max(y0, y1)):
            inside[row] ^= np.arange(size_hw[1]) > x0 + (row - y0) * (x1 - x0) / (y1 - y0)
    return drawn | inside
