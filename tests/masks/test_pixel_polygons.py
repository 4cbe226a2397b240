"""Polygons through pixel centres fill to their masks by OpenCV's rule, which is followed here pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label

from everymask.masks.column_runs import ColumnRuns
from everymask.masks.pixel_polygons import fill_pixel_polygons, pixel_polygons
from everymask.masks.rle import decode_mask, encode_masks
from tests.masks.opencv_fill import draw
from tests.masks.strategies import STANDING_CASES, mask_stacks, masks


@pytest.mark.parametrize("mask", STANDING_CASES.values(), ids=STANDING_CASES.keys())
def test_standing_cases_of_one_part_come_back(mask: NDArray[np.bool_]) -> None:
    (polygon,) = pixel_polygons(ColumnRuns.of_mask(mask), 1)
    if label(mask, connectivity=2).max() < 2:
        np.testing.assert_array_equal(draw(polygon, mask.shape), mask)


@given(mask_stacks(max_side=12))
def test_masks_of_one_part_come_back_and_others_gain_thin_lines(stack: NDArray[np.bool_]) -> None:
    size_hw = stack.shape[1:]
    rles = encode_masks(stack)
    polygons = pixel_polygons(ColumnRuns.of_rles(rles, size_hw), len(rles))
    for mask, rle, polygon, filled in zip(stack, rles, polygons, fill_pixel_polygons(polygons, size_hw), strict=True):
        parts = label(mask, connectivity=2)
        drawn = decode_mask(filled)
        np.testing.assert_array_equal(drawn, draw(polygon, size_hw))
        if parts.max() < 2:
            assert filled == rle
            continue
        areas = np.bincount(parts.ravel())[1:]
        whole = [drawn[parts == part].all() for part in range(1, parts.max() + 1)]
        assert whole[int(areas.argmax())]
        # As good as the largest part alone, at least.
        assert (drawn & mask).sum() - (drawn & ~mask).sum() >= areas.max()


@given(
    st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(
        lambda size: st.lists(st.tuples(st.integers(0, size[1] - 1), st.integers(0, size[0] - 1)), max_size=9).map(
            lambda corners: (size, np.array(corners, dtype=np.int64).reshape(-1, 2))
        )
    )
)
def test_any_ring_is_filled_as_opencv_fills_it(case: tuple[tuple[int, int], NDArray[np.int64]]) -> None:
    size_hw, polygon = case
    (filled,) = fill_pixel_polygons([polygon], size_hw)
    np.testing.assert_array_equal(decode_mask(filled), draw(polygon, size_hw))


def test_parts_are_joined_where_they_are_nearest() -> None:
    mask = np.zeros((30, 60), dtype=np.bool_)
    mask[2:20, 2:20] = mask[10:28, 24:40] = mask[4:8, 50:58] = True
    (polygon,) = pixel_polygons(ColumnRuns.of_mask(mask), 1)
    (filled,) = fill_pixel_polygons([polygon], mask.shape)
    gained = decode_mask(filled) & ~mask
    assert gained.sum() == (24 - 19 - 1) + (50 - 39 - 1)
    assert not (mask & ~decode_mask(filled)).any()


@pytest.mark.parametrize(("gap", "kept"), [(4, True), (5, False)])
def test_a_part_smaller_than_the_line_to_it_is_left_out(gap: int, kept: bool) -> None:
    mask = np.zeros((20, 60), dtype=np.bool_)
    mask[2:18, 20:40] = True
    crumb = np.zeros_like(mask)
    crumb[8:10, 20 - gap - 2 : 20 - gap] = True
    (polygon,) = pixel_polygons(ColumnRuns.of_mask(mask | crumb), 1)
    drawn = draw(polygon, mask.shape)
    assert (drawn & crumb).any() == kept
    assert (drawn & ~mask & ~crumb).sum() == (gap if kept else 0)


def test_a_small_part_that_leads_to_a_large_one_stays() -> None:
    mask = np.zeros((20, 60), dtype=np.bool_)
    mask[2:18, 2:20] = mask[2:18, 40:58] = mask[9, 30] = True
    (polygon,) = pixel_polygons(ColumnRuns.of_mask(mask), 1)
    drawn = draw(polygon, mask.shape)
    assert not (mask & ~drawn).any()
    assert (drawn & ~mask).sum() == (30 - 19 - 1) + (40 - 30 - 1)


@given(masks())
def test_corners_are_where_the_outline_turns(mask: NDArray[np.bool_]) -> None:
    (polygon,) = pixel_polygons(ColumnRuns.of_mask(mask), 1)
    assert all(mask[y, x] for x, y in polygon.tolist())


def test_thousands_of_parts_are_one_ring_in_seconds() -> None:
    mask = np.zeros((120, 120), dtype=np.bool_)
    mask[::2, ::2] = True
    (polygon,) = pixel_polygons(ColumnRuns.of_mask(mask), 1)
    assert {tuple(corner) for corner in polygon.tolist()} == {(int(x), int(y)) for y, x in np.argwhere(mask)}
