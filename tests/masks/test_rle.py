from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from everymask.masks.rle import (
    boxes_from_rles,
    decode_mask,
    decode_masks,
    encode_label_map,
    encode_mask,
    encode_masks,
    paired_ious,
    rle_areas,
    rle_ious,
    shares_inside,
)
from tests.masks.compressed import compress
from tests.masks.strategies import STANDING_CASES, mask_stacks


def counts_by_walking(mask: NDArray[np.bool_]) -> list[int]:
    """COCO counts of a mask, one pixel at a time, column by column."""
    counts, value, run = [], False, 0
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(run)
            value, run = pixel, 0
        run += 1
    return [*counts, run]


@pytest.mark.parametrize("mask", STANDING_CASES.values(), ids=STANDING_CASES.keys())
def test_standing_cases_have_the_published_encoding(mask: NDArray[np.bool_]) -> None:
    rle = encode_mask(mask)
    assert rle == {"size": list(mask.shape), "counts": compress(counts_by_walking(mask))}
    np.testing.assert_array_equal(decode_mask(rle), mask)


@given(mask_stacks())
def test_stacks_come_back_and_areas_and_ious_need_no_decoding(masks: NDArray[np.bool_]) -> None:
    rles = encode_masks(torch.from_numpy(masks))
    np.testing.assert_array_equal(decode_masks(rles, masks.shape[1:]), masks)
    np.testing.assert_array_equal(rle_areas(rles), masks.sum((1, 2)))
    union = (masks[:, None] | masks[None]).sum((2, 3))
    expected = (masks[:, None] & masks[None]).sum((2, 3)) / np.maximum(union, 1)
    np.testing.assert_allclose(rle_ious(rles, rles), expected)
    np.testing.assert_array_equal(paired_ious(rles, rles[::-1]), np.diag(expected[:, ::-1]))


@given(
    hnp.arrays(
        np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements={"min_value": -1, "max_value": 4}
    )
)
def test_a_label_map_encodes_as_its_regions_do(label_map: NDArray[np.int32]) -> None:
    expected = encode_masks(np.stack([label_map == region for region in range(6)]))
    assert encode_label_map(label_map, 6) == expected


def test_any_number_of_masks_is_counted() -> None:
    rles = encode_masks(np.ones((600, 2, 3), dtype=np.bool_))
    assert rle_areas(rles).tolist() == [6] * 600
    assert rle_areas([]).tolist() == []
    assert boxes_from_rles(rles).shape == (600, 4)
    assert rle_ious(rles, rles[:1]).shape == (600, 1)


def test_a_label_map_without_regions_gives_no_encoding() -> None:
    assert encode_label_map(np.full((3, 4), -1), 0) == []


def test_a_label_beyond_the_count_is_refused() -> None:
    with pytest.raises(ValueError, match="holds 2, but there are only 2 labels"):
        encode_label_map(np.array([[0, 2]]), 2)


def test_arrays_that_are_no_mask_stack_are_refused() -> None:
    with pytest.raises(ValueError, match="must be"):
        encode_masks(np.zeros((2, 3), dtype=np.bool_))
    with pytest.raises(ValueError, match="uint8"):
        encode_masks(np.zeros((1, 2, 3), dtype=np.uint8))


@given(mask_stacks())
def test_the_share_inside_others_is_that_of_pixels_in_any_of_them(masks: NDArray[np.bool_]) -> None:
    first, others = masks[: len(masks) // 2], masks[len(masks) // 2 :]
    union = others.any(axis=0) if len(others) else np.zeros(masks.shape[1:], dtype=np.bool_)
    expected = [(mask & union).sum() / max(mask.sum(), 1) for mask in first]
    found = shares_inside(encode_masks(first), encode_masks(others))
    shown = [share if mask.any() else 0.0 for share, mask in zip(found.tolist(), first, strict=True)]
    assert shown == pytest.approx(expected)
