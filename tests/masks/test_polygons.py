from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from skimage.measure import label

from everymask.masks.column_runs import ColumnRuns
from everymask.masks.polygons import (
    coco_segmentation,
    joined_polygons,
    outline_rings,
    polygons_from_mask,
    ring_area,
)
from everymask.masks.rle import encode_masks
from tests.masks.strategies import STANDING_CASES, masks


def winding_fill(polygons: list[NDArray[np.float64]], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre a ring winds around: a ray to the right, edge by edge."""
    filled = np.zeros(size_hw, dtype=np.bool_)
    for row in range(size_hw[0]):
        for column in range(size_hw[1]):
            winding = 0
            for ring in polygons:
                for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                    if (y0 <= row) == (y1 <= row):
                        continue
                    crossing = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                    if crossing > column + 0.5:
                        winding += 1 if y1 > y0 else -1
            filled[row, column] = winding != 0
    return filled


@pytest.mark.parametrize("mask", STANDING_CASES.values(), ids=STANDING_CASES.keys())
def test_standing_cases_fill_to_the_mask_again(mask: NDArray[np.bool_]) -> None:
    polygons = polygons_from_mask(mask)
    assert len(polygons) == label(mask, connectivity=1).max()
    np.testing.assert_array_equal(winding_fill(polygons, mask.shape), mask)


@given(masks())
def test_any_mask_fills_to_itself_and_keeps_its_area(mask: NDArray[np.bool_]) -> None:
    polygons = polygons_from_mask(mask)
    np.testing.assert_array_equal(winding_fill(polygons, mask.shape), mask)
    assert sum(abs(ring_area(ring)) for ring in polygons) == mask.sum()


@given(masks())
def test_outlines_wind_one_way_around_parts_and_the_other_around_holes(mask: NDArray[np.bool_]) -> None:
    areas = [ring_area(ring) for ring in outline_rings(mask)]
    parts = label(mask, connectivity=1).max()
    assert all(area > 0 for area in areas[:parts])
    assert all(area < 0 for area in areas[parts:])
    assert sum(areas) == mask.sum()


@pytest.mark.timeout(60)
def test_a_sieve_with_ten_thousand_holes_is_one_polygon_in_seconds() -> None:
    """Bridging each hole by comparing it with the whole ring took 47 s for the 2,401 holes of 100 x 100 pixels."""
    mask = np.ones((201, 201), dtype=np.bool_)
    mask[1:-1:2, 1:-1:2] = False
    (polygon,) = polygons_from_mask(mask)
    assert ring_area(polygon) == mask.sum() == 201**2 - 10_000
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(coco_segmentation(mask), *mask.shape)))
    np.testing.assert_array_equal(drawn.astype(np.bool_), mask)


@given(masks(max_side=24))
def test_pycocotools_draws_any_mask_again(mask: NDArray[np.bool_]) -> None:
    if not mask.any():
        return
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(coco_segmentation(mask), *mask.shape)))
    np.testing.assert_array_equal(drawn.astype(np.bool_), mask)


def test_corners_are_pixel_corners_and_straight_edges_have_no_corner() -> None:
    mask = np.zeros((4, 6), dtype=np.bool_)
    mask[1:3, 2:6] = True
    (polygon,) = polygons_from_mask(mask)
    assert sorted(map(tuple, polygon.tolist())) == [(2, 1), (2, 3), (6, 1), (6, 3)]


def test_pycocotools_draws_holes_and_parts_from_them() -> None:
    rows, columns = np.mgrid[:60, :90]
    distance = np.hypot(rows - 30, columns - 35)
    mask = ((distance < 25) & (distance > 10)) | (columns > 70)
    merged = coco_mask.merge(coco_mask.frPyObjects(coco_segmentation(mask), *mask.shape))
    drawn = coco_mask.decode(merged).astype(np.bool_)
    np.testing.assert_array_equal(drawn, mask)


def test_the_polygons_of_many_masks_are_those_of_each() -> None:
    several = np.zeros((4, 9, 12), dtype=np.bool_)
    several[0, 1:3, 1:4] = several[0, 5:8, 6:11] = True  # two parts
    several[2, 2:8, 2:9] = True
    several[2, 4:6, 4:7] = False  # a hole; the masks before and after it are empty
    found = joined_polygons(ColumnRuns.of_rles(encode_masks(several), (9, 12)), len(several))
    assert [len(polygons) for polygons in found] == [2, 0, 1, 0]
    for polygons, mask in zip(found, several, strict=True):
        expected = polygons_from_mask(mask)
        assert [ring.tolist() for ring in polygons] == [ring.tolist() for ring in expected]
    assert joined_polygons(ColumnRuns.of_rles([], (9, 12)), 0) == []
