"""Run lengths against the pixels themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from everymask.masks.rle import encode_mask
from everymask.masks.runs import (
    crop_of,
    pixels_at,
    rle_from_crop,
    rle_from_runs,
    rle_runs,
    rles_from_runs,
    row_major_runs,
    runs_of_rles,
    spans_of_runs,
)
from tests.masks.strategies import masks


@given(masks())
def test_runs_are_the_pixels_in_columns(mask: NDArray[np.bool_]) -> None:
    rle = encode_mask(mask)
    runs = rle_runs(rle)
    np.testing.assert_array_equal(np.repeat(np.arange(len(runs)) % 2, runs), mask.ravel(order="F"))
    assert rle_from_runs(runs, mask.shape) == rle


@given(masks(), masks(), st.lists(st.integers(0, 1), max_size=5))
def test_many_masks_at_once_are_each_of_them_alone(
    first: NDArray[np.bool_], second: NDArray[np.bool_], order: list[int]
) -> None:
    rles = [encode_mask((first, second)[index]) for index in order]
    alone = [rle_runs(rle) for rle in rles]
    together = runs_of_rles(rles)
    assert [runs.tolist() for runs in together] == [runs.tolist() for runs in alone]
    of_first = [encode_mask(mask) for mask in (first, ~first, first)]
    assert rles_from_runs(runs_of_rles(of_first), first.shape) == of_first
    assert rles_from_runs([], first.shape) == []


@given(masks())
def test_crops_and_row_major_runs(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    x0, y0 = width // 3, height // 3
    crop = crop_of(encode_mask(mask), (x0, y0, width, height))
    np.testing.assert_array_equal(crop, mask[y0:, x0:])
    inner = (x0, y0, max(x0 + 1, width - x0), max(y0 + 1, height - y0))
    np.testing.assert_array_equal(crop_of(encode_mask(mask), inner), mask[inner[1] : inner[3], inner[0] : inner[2]])
    expected = np.zeros_like(mask)
    expected[y0:, x0:] = mask[y0:, x0:]
    assert rle_from_crop(crop, (x0, y0), (height, width)) == encode_mask(expected)
    runs = row_major_runs(crop, (x0, y0), (height, width))
    np.testing.assert_array_equal(np.repeat(np.arange(len(runs)) % 2, runs), expected.ravel())


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=40))
def test_the_text_of_any_runs_is_pycocotools_own(runs: list[int]) -> None:
    total = sum(runs)
    text = coco_mask.frPyObjects({"size": [total, 1], "counts": runs}, total, 1)["counts"]
    assert rle_from_runs(runs, (total, 1))["counts"] == text.decode()


def test_large_numbers_survive_the_text() -> None:
    mask = np.zeros((5000, 700), bool)
    mask[17:4000, 300:650] = True
    assert rle_from_runs(rle_runs(encode_mask(mask)), mask.shape) == encode_mask(mask)


def test_runs_that_do_not_fill_the_image_are_refused() -> None:
    with pytest.raises(ValueError, match="runs of 7 pixels do not make a mask of 2 x 4"):
        rle_from_runs([3, 4], (4, 2))
    with pytest.raises(ValueError, match="reaches beyond an image of 3 x 3"):
        rle_from_crop(np.ones((2, 2), bool), (2, 2), (3, 3))


@given(masks(), st.data())
def test_some_rows_and_columns_are_those_of_the_whole_mask(mask: NDArray[np.bool_], data: st.DataObject) -> None:
    rows, columns = (
        np.array(data.draw(st.lists(st.integers(0, side - 1), max_size=9)), dtype=np.int64) for side in mask.shape
    )
    np.testing.assert_array_equal(pixels_at(encode_mask(mask), rows, columns), mask[rows[:, None], columns])


def test_masks_that_touch_across_an_empty_run_are_one_span_and_two_masks_are_not() -> None:
    first, second = [1, 2, 0, 7], [0, 4, 0, 6]  # background first, of no length between two runs of one mask
    starts, stops, owners = spans_of_runs(np.array([*first, *second]), np.array([0, len(first), len(first + second)]))
    assert list(zip(owners.tolist(), starts.tolist(), stops.tolist(), strict=True)) == [(0, 1, 10), (1, 10, 20)]
