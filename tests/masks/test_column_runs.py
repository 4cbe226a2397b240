"""Masks as vertical runs, against their pixels."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.masks.column_runs import ColumnRuns, union_of_spans
from everymask.masks.rle import boxes_from_rles, encode_masks
from tests.masks.strategies import mask_stacks


def decoded(runs: ColumnRuns, num_masks: int) -> NDArray[np.bool_]:
    """(N, H, W) bool, run by run."""
    height, width = runs.size_hw
    masks = np.zeros((num_masks, height, width), dtype=np.bool_)
    for line, top, bottom in zip(runs.lines, runs.tops, runs.bottoms, strict=True):
        masks[line // width, top:bottom, line % width] = True
    return masks


@given(mask_stacks(max_side=12))
def test_runs_of_encodings_are_their_pixels_and_give_the_encodings(stack: NDArray[np.bool_]) -> None:
    rles = encode_masks(stack)
    runs = ColumnRuns.of_rles(rles, stack.shape[1:])
    np.testing.assert_array_equal(decoded(runs, len(stack)), stack)
    assert runs.rles(len(stack)) == rles


@given(mask_stacks(max_side=12))
def test_transposed_runs_are_those_of_the_transposed_masks(stack: NDArray[np.bool_]) -> None:
    turned = np.ascontiguousarray(stack.transpose(0, 2, 1))
    runs = ColumnRuns.of_rles(encode_masks(stack), stack.shape[1:]).transposed()
    wanted = ColumnRuns.of_rles(encode_masks(turned), turned.shape[1:])
    assert runs.size_hw == wanted.size_hw
    for name in ("lines", "tops", "bottoms"):
        np.testing.assert_array_equal(getattr(runs, name), getattr(wanted, name), err_msg=name)


@given(mask_stacks(max_side=12))
def test_runs_in_boxes_are_those_of_the_crops_and_come_back(stack: NDArray[np.bool_]) -> None:
    stack = stack[stack.any(axis=(1, 2))]
    rles = encode_masks(stack)
    boxes = boxes_from_rles(rles)
    counts, bounds = ColumnRuns.of_rles(rles, stack.shape[1:]).in_boxes(boxes)
    for mask, (x0, y0, x1, y1), (first, last) in zip(stack, boxes, itertools.pairwise(bounds), strict=True):
        runs = counts[first:last]
        np.testing.assert_array_equal(np.repeat(np.arange(runs.size) % 2 == 1, runs), mask[y0:y1, x0:x1].ravel("F"))
    back = ColumnRuns.of_boxes(counts, bounds, boxes, stack.shape[1:])
    assert back.rles(len(stack)) == rles


@given(mask_stacks(max_side=12), st.integers(0, 10**6))
def test_copies_that_did_not_change_keep_their_encodings(stack: NDArray[np.bool_], place: int) -> None:
    size_hw, rles = stack.shape[1:], encode_masks(stack)
    stored = ColumnRuns.of_rles(rles, size_hw)
    own = stored.rles_of_copies(stored, rles)
    assert all(kept is rle for kept, rle in zip(own, rles, strict=True))
    if not stack.size:
        return
    changed = stack.copy()
    changed.flat[place % stack.size] ^= True
    number = place % stack.size // (size_hw[0] * size_hw[1])
    found = ColumnRuns.of_rles(encode_masks(changed), size_hw).rles_of_copies(stored, rles)
    assert found == encode_masks(changed)
    assert [kept is rle for kept, rle in zip(found, rles, strict=True)] == [
        place != number for place in range(len(rles))
    ]


@given(mask_stacks(max_side=12))
def test_areas_are_counts_of_pixels(stack: NDArray[np.bool_]) -> None:
    runs = ColumnRuns.of_rles(encode_masks(stack), stack.shape[1:])
    assert runs.areas(len(stack)).tolist() == stack.sum(axis=(1, 2)).tolist()


@given(mask_stacks(max_side=12), st.randoms(use_true_random=False))
def test_the_union_of_spans_is_the_pixels_of_all_of_them(stack: NDArray[np.bool_], random: Random) -> None:
    """Spans in any order, some of them cut in two, some of them twice."""
    size_hw = stack.shape[1:]
    runs = ColumnRuns.of_rles(encode_masks(stack), size_hw)
    heads = runs.lines * size_hw[0]
    spans = []
    for start, stop in zip((heads + runs.tops).tolist(), (heads + runs.bottoms).tolist(), strict=True):
        cut = random.randint(start, stop)
        pieces = [(start, cut), (cut, stop), (random.randint(start, cut), stop)]
        spans += [(first, last) for first, last in pieces if last > first]
    random.shuffle(spans)
    starts, stops = np.array(spans, dtype=np.int64).reshape(-1, 2).T
    np.testing.assert_array_equal(decoded(union_of_spans(starts, stops, size_hw), len(stack)), stack)
