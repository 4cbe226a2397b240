"""Polygons without holes are the mask, and simplified ones stay near it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from everymask.formats import outlines
from everymask.formats.outlines import MIN_IOU, coco_polygons, simple_polygons
from everymask.masks.checked import fill_polygons
from everymask.masks.rle import encode_mask, rle_ious
from tests.labels.examples import mask_record, ring_and_disc
from tests.masks.strategies import masks


@given(masks())
def test_polygons_without_holes_fill_to_the_mask(mask: NDArray[np.bool_]) -> None:
    if not mask.any():
        return
    polygons = simple_polygons(mask_record(mask, 0.5))
    assert fill_polygons([polygon.ravel().tolist() for polygon in polygons], mask.shape) == encode_mask(mask)


@pytest.mark.parametrize("tolerance_px", [0.5, 1.0, 3.0])
def test_simplified_outlines_have_fewer_corners_and_stay_near(tolerance_px: float) -> None:
    y, x = np.mgrid[:300, :400]
    ring = (np.hypot(x - 200, y - 150) < 120) & (np.hypot(x - 200, y - 150) > 40)
    record = mask_record(ring, 0.5)
    exact, fewer = coco_polygons(record, 0.0), coco_polygons(record, tolerance_px)
    assert sum(map(len, fewer)) < sum(map(len, exact))
    assert rle_ious([record.rle], [fill_polygons(fewer, (300, 400))])[0, 0] >= MIN_IOU


@pytest.mark.parametrize("tolerance_px", [1.0, 50.0])
def test_small_masks_do_not_vanish(tolerance_px: float) -> None:
    pixel = np.zeros((9, 9), bool)
    pixel[4, 4] = True
    for mask in [pixel, *ring_and_disc()]:
        record = mask_record(mask, 0.5)
        filled = fill_polygons(coco_polygons(record, tolerance_px), (mask.shape[0], mask.shape[1]))
        assert rle_ious([record.rle], [filled])[0, 0] >= MIN_IOU


def test_a_grating_is_halved_and_not_peeled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut hole by hole from one end, a mask of some thousand holes would be cut deeper than Python calls."""
    depths = []

    def counted(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
        depths.append(sum(frame.function == "counted" for frame in inspect.stack(context=0)))
        return rings(mask)

    rings = outlines._simple_rings
    monkeypatch.setattr(outlines, "_simple_rings", counted)
    grating = np.ones((3, 129), bool)
    grating[1, 1::2] = False
    polygons = simple_polygons(mask_record(grating, 0.5))
    assert fill_polygons([polygon.ravel().tolist() for polygon in polygons], grating.shape) == encode_mask(grating)
    assert max(depths) <= 9, "64 holes are halved six or seven times"


def test_a_mask_of_many_holes_is_cut_in_reasonable_time() -> None:
    sieve = np.ones((60, 60), bool)
    sieve[1:-1:2, 1:-1:2] = False
    polygons = simple_polygons(mask_record(sieve, 0.5))
    assert fill_polygons([polygon.ravel().tolist() for polygon in polygons], (60, 60)) == encode_mask(sieve)
