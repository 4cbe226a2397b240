from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.backbone.protocol import Canvas
from everymask.masks.boxes import boxes_from_cells, boxes_from_masks
from everymask.masks.rle import boxes_from_rles, encode_masks
from tests.masks.strategies import mask_stacks


def box_by_search(mask: NDArray[np.bool_]) -> list[int]:
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if xs.size else [0, 0, 0, 0]


@given(mask_stacks())
def test_boxes_are_tight_and_half_open(masks: NDArray[np.bool_]) -> None:
    expected = np.array([box_by_search(mask) for mask in masks], dtype=np.int64).reshape(-1, 4)
    np.testing.assert_array_equal(boxes_from_masks(torch.from_numpy(masks)).numpy(), expected)
    np.testing.assert_array_equal(boxes_from_rles(encode_masks(masks)), expected)


def test_a_one_pixel_mask_is_one_wide() -> None:
    mask = torch.zeros(1, 4, 6, dtype=torch.bool)
    mask[0, 2, 3] = True
    assert boxes_from_masks(mask).tolist() == [[3, 2, 4, 3]]


@given(st.integers(0, 4), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_boxes_of_cells_are_those_of_their_pixels(count: int, height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(4, (height, width), generator=generator)
    cells = torch.unique(cells, return_inverse=True)[1]
    canvas = Canvas(cells, torch.bincount(cells.flatten()).to(torch.float32), (height, width))
    masks = torch.rand(count, canvas.num_cells, generator=generator) < 0.4
    assert torch.equal(boxes_from_cells(masks, canvas), boxes_from_masks(canvas.to_pixels(masks)))
