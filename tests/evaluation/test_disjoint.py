from __future__ import annotations

import numpy as np
from hypothesis import given
from numpy.typing import NDArray

from everymask.evaluation.disjoint import overlapping_pixels, resolve_overlaps
from everymask.masks.rle import decode_mask
from tests.evaluation.labels import labels
from tests.masks.strategies import mask_stacks


def row(start: int, stop: int) -> NDArray[np.bool_]:
    mask = np.zeros((2, 20), dtype=np.bool_)
    mask[:, start:stop] = True
    return mask


def test_the_higher_score_keeps_the_overlap() -> None:
    disjoint = resolve_overlaps(labels([row(0, 12), row(8, 20)], [0.8, 0.9], (2, 20)))
    np.testing.assert_array_equal(decode_mask(disjoint.masks[0].rle), row(8, 20))
    np.testing.assert_array_equal(decode_mask(disjoint.masks[1].rle), row(0, 8))
    assert (disjoint.masks[1].area, disjoint.masks[1].box_xyxy) == (16, (0, 0, 8, 2))


def test_of_equal_scores_the_first_keeps_the_pixels_and_a_hidden_mask_is_dropped() -> None:
    disjoint = resolve_overlaps(labels([row(0, 12), row(4, 8), row(10, 20)], [0.9, 0.9, 0.9], (2, 20)))
    assert [mask.area for mask in disjoint.masks] == [24, 16]


@given(mask_stacks())
def test_resolved_masks_are_disjoint_and_lose_no_pixel(stack: NDArray[np.bool_]) -> None:
    disjoint = resolve_overlaps(labels(list(stack), [0.5] * len(stack), stack.shape[1:]))
    assert overlapping_pixels(disjoint.masks) == 0
    assert sum(mask.area for mask in disjoint.masks) == stack.any(axis=0).sum()
    assert overlapping_pixels(labels(list(stack), [0.5] * len(stack), stack.shape[1:]).masks) == (
        stack.sum() - stack.any(axis=0).sum()
    )
