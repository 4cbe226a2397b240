"""Rings with fewer corners stay as near as they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.masks.polygons import outline_rings
from everymask.masks.simplification import Simplification, simplified_rings
from tests.masks.strategies import masks


def distance(points: NDArray[np.float64], start: NDArray[np.float64], stop: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each point to a segment."""
    way = stop - start
    share = np.clip((points - start) @ way / max(way @ way, 1e-9), 0, 1)
    result: NDArray[np.float64] = np.hypot(*(points - start - share[:, None] * way).T)
    return result


def slow(points: NDArray[np.float64], tolerance_px: float) -> list[int]:
    """Douglas and Peucker's recursion: the places that are kept between the first and the last."""
    between = distance(points[1:-1], points[0], points[-1])
    if not len(between) or between.max() <= tolerance_px:
        return []
    middle = 1 + int(np.flatnonzero(between >= between.max() - 1e-9)[0])
    rest = [middle + place for place in slow(points[middle:], tolerance_px)]
    return [*slow(points[: middle + 1], tolerance_px), middle, *rest]


@given(st.lists(masks(), min_size=1, max_size=4), st.sampled_from([0.25, 0.7, 1.3, 4.1]))
def test_many_rings_at_once_are_what_the_recursion_gives_for_each(
    pixels: list[NDArray[np.bool_]], tolerance_px: float
) -> None:
    rings = [ring.astype(np.float64) for mask in pixels for ring in outline_rings(mask)]
    for ring, found in zip(rings, simplified_rings(rings, tolerance_px), strict=True):
        far = int(np.abs(ring - ring[0]).sum(axis=1).argmax())
        closed = np.concatenate([ring, ring[:1]])
        kept = [0, *slow(closed[: far + 1], tolerance_px), far]
        kept += [far + place for place in slow(closed[far:], tolerance_px)]
        np.testing.assert_array_equal(found, ring[kept] if len(kept) >= 3 else ring)


@given(st.lists(masks(), min_size=1, max_size=4), st.data())
def test_going_on_more_finely_with_some_rings_is_beginning_again(
    pixels: list[NDArray[np.bool_]], data: st.DataObject
) -> None:
    rings = [ring.astype(np.float64) for mask in pixels for ring in outline_rings(mask)]
    simplification = Simplification(rings)
    asked = list(range(len(rings)))
    for tolerance_px in (4.1, 1.3, 0.7, 0.25):
        anew = simplified_rings([rings[number] for number in asked], tolerance_px)
        for found, expected in zip(simplification.within(tolerance_px, asked), anew, strict=True):
            np.testing.assert_array_equal(found, expected)
        asked = data.draw(st.lists(st.sampled_from(asked), unique=True)) if asked else []


def test_a_disc_has_a_tenth_of_its_corners() -> None:
    y, x = np.mgrid[:200, :200]
    (ring,) = outline_rings(np.hypot(y - 100, x - 100) < 90)
    (fewer,) = simplified_rings([ring.astype(np.float64)], 2.0)
    assert 8 <= len(fewer) < len(ring) / 10


@pytest.mark.parametrize("tolerance_px", [0.0, 1000.0])
def test_nothing_and_triangles_stay(tolerance_px: float) -> None:
    assert simplified_rings([], tolerance_px) == []
    triangle = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    np.testing.assert_array_equal(simplified_rings([triangle], tolerance_px)[0], triangle)
