"""Masks that overlap, painted into one map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.masks.painting import label_map_by_score, semantic_map
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels, LabelledMask
from tests.masks.strategies import mask_stacks


def record(mask: NDArray[np.bool_], score: float, class_id: int | None) -> LabelledMask:
    return LabelledMask(encode_mask(mask), (0, 0, 1, 1), 0, 1.0, 1.0, (0.0, 0.0), score, class_id)


@given(mask_stacks(), st.data())
def test_each_pixel_belongs_to_its_best_mask_and_that_ones_class(masks: NDArray[np.bool_], data: st.DataObject) -> None:
    count = len(masks)
    scores = data.draw(st.lists(st.sampled_from([0.2, 0.5, 0.9]), min_size=count, max_size=count))
    classes = data.draw(st.lists(st.none() | st.integers(0, 3), min_size=count, max_size=count))
    records = tuple(record(*one) for one in zip(masks, scores, classes, strict=True))
    height, width = masks.shape[1:]
    labels = ImageLabels((height, width), records, 1.0)
    best, painted = np.full((height, width), -1), np.zeros((height, width), int)
    for y, x in np.ndindex(height, width):
        here = [number for number in range(count) if masks[number, y, x]]
        best[y, x] = max(here, key=lambda number: (scores[number], -number), default=-1)
        named = [number for number in here if classes[number] is not None]
        if named:
            painted[y, x] = classes[max(named, key=lambda number: (scores[number], -number))] + 1
    np.testing.assert_array_equal(label_map_by_score(labels), best)
    np.testing.assert_array_equal(semantic_map(labels), painted)


def test_numbers_of_masks_are_of_32_bits() -> None:
    mask = LabelledMask(encode_mask(np.ones((2, 3), dtype=np.bool_)), (0, 0, 3, 2), 6, 0.5, 0.5, (0.0, 0.0), 0.5)
    found = label_map_by_score(ImageLabels((2, 3), (mask,), 1.0))
    assert (found.dtype, found.tolist()) == (np.int32, [[0, 0, 0], [0, 0, 0]])


def test_an_image_without_masks_is_background() -> None:
    nothing = ImageLabels((2, 3), (), 0.0)
    assert label_map_by_score(nothing).tolist() == [[-1] * 3] * 2
    assert semantic_map(nothing).tolist() == [[0] * 3] * 2
    entity = replace(nothing, masks=(record(np.ones((2, 3), bool), 0.5, None),))
    assert semantic_map(entity).tolist() == [[0] * 3] * 2
