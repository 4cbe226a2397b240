from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from everymask.masks.overlap import intersection_areas, mask_areas, mask_iou


@st.composite
def weighted_masks(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two mask stacks over the same cells, and the cells' areas."""
    cells = draw(st.integers(1, 8))
    first = draw(hnp.arrays(np.bool_, (draw(st.integers(0, 4)), cells)))
    second = draw(hnp.arrays(np.bool_, (draw(st.integers(0, 4)), cells)))
    area = draw(hnp.arrays(np.int64, cells, elements={"min_value": 1, "max_value": 500}))
    return first, second, area


def spread(masks: torch.Tensor, area: torch.Tensor) -> list[NDArray[np.bool_]]:
    """Masks over pixels: each cell repeated as often as it has pixels."""
    return [np.repeat(mask, area) for mask in masks]


@given(weighted_masks())
def test_weighted_ratios_equal_counting_pixels(case: Any) -> None:
    first, second, area = case
    a, b, weights = torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(area).to(torch.float32)
    pixels_a, pixels_b = spread(first, area), spread(second, area)
    assert mask_areas(a, weights).tolist() == [mask.sum() for mask in pixels_a]
    for n, p in enumerate(pixels_a):
        for m, q in enumerate(pixels_b):
            inter, union = (p & q).sum(), (p | q).sum()
            assert intersection_areas(a, b, weights)[n, m] == inter
            np.testing.assert_allclose(mask_iou(a, b, weights)[n, m], inter / union if union else 0, rtol=1e-6)


def test_no_mask_gives_an_empty_matrix() -> None:
    none, two, area = torch.zeros(0, 3, dtype=torch.bool), torch.ones(2, 3, dtype=torch.bool), torch.ones(3)
    assert mask_iou(none, two, area).shape == (0, 2)


def test_areas_beyond_float32_stay_exact_in_float64() -> None:
    area = torch.tensor([2.0**24, 1.0, 1.0], dtype=torch.float64)
    masks = torch.tensor([[True, True, False]])
    assert mask_areas(masks, area).item() == 2**24 + 1
    assert intersection_areas(masks, masks, area).item() == 2**24 + 1
