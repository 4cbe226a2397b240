"""The point that a person would click."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from numpy.typing import NDArray

from everymask.masks.interior import interior_points
from tests.masks.strategies import masks


def by_measuring(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The pixel with the longest way to any pixel outside, of the image or of the mask; the first in raster order."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    inside = np.argwhere(padded)
    squares = ((inside[:, None] - outside[None]) ** 2).sum(axis=2).min(axis=1)
    y, x = inside[squares.argmax()] - 1
    return x + 0.5, y + 0.5


@given(masks())
def test_it_is_the_pixel_farthest_from_every_border(mask: NDArray[np.bool_]) -> None:
    both = [one for one in (mask, ~mask) if one.any()]
    assert interior_points(np.stack(both)).tolist() == [list(by_measuring(one)) for one in both]


def test_no_mask_has_no_point() -> None:
    assert interior_points(np.zeros((0, 4, 5), bool)).shape == (0, 2)
