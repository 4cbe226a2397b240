"""Small regions, against SAM's rules worked out by hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everymask.masks.regions import drop_small_islands, fill_small_holes, small_holes, small_islands


def drawing(*rows: str) -> NDArray[np.bool_]:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def test_fills_holes_under_the_area_alone() -> None:
    mask = drawing("#######", "#.###.#", "#####.#", "#######")
    assert np.array_equal(fill_small_holes(mask, 2), drawing("#######", "#####.#", "#####.#", "#######"))
    assert fill_small_holes(mask, 3).all()
    assert np.array_equal(fill_small_holes(mask, 1), mask)


def test_background_that_touches_diagonally_is_one_region() -> None:
    mask = drawing("#####", "#.###", "##.##", "#####")
    assert np.array_equal(fill_small_holes(mask, 2), mask)


def test_drops_islands_under_the_area_alone() -> None:
    mask = drawing("##...#", "##....", "....##")
    assert np.array_equal(drop_small_islands(mask, 2), drawing("##....", "##....", "....##"))
    assert np.array_equal(drop_small_islands(mask, 3), drawing("##....", "##....", "......"))


def test_the_largest_island_stays_however_small() -> None:
    mask = drawing("##...", "....#")
    assert np.array_equal(drop_small_islands(mask, 100), drawing("##...", "....."))


def test_empty_and_full_masks_stay_as_they_are() -> None:
    for mask in (np.zeros((3, 4), dtype=np.bool_), np.ones((3, 4), dtype=np.bool_)):
        assert np.array_equal(drop_small_islands(mask, 2), mask)
    assert np.array_equal(fill_small_holes(np.ones((3, 4), dtype=np.bool_), 2), np.ones((3, 4)))


def test_every_island_under_the_area_is_named() -> None:
    mask = drawing("##...#", "##....", "....##")
    assert np.array_equal(small_islands(mask, 3), drawing(".....#", "......", "....##"))
    assert np.array_equal(small_islands(mask, 5), mask)


def test_holes_are_enclosed() -> None:
    mask = drawing("#######", "#.##..#", "####..#", "#.#####", "#.#####")
    assert np.array_equal(small_holes(mask, 9), drawing(".......", ".#..##.", "....##.", ".......", "......."))
    assert np.array_equal(small_holes(mask, 2), drawing(".......", ".#.....", ".......", ".......", "......."))
