"""Packed masks against the same questions asked of bool masks."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from everymask.masks.overlap import intersection_areas, mask_areas, mask_iou
from everymask.masks.packed import PackedMasks, has_match, intersections, iou, leaders


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two stacks of masks over cells of any areas, more and fewer than 64."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    cells = draw(st.sampled_from([1, 7, 64, 65, 200]))
    largest = draw(st.sampled_from([1, 2, 1000]))
    area = torch.randint(1, largest + 1, (cells,), generator=generator).to(torch.float32)
    density = draw(st.sampled_from([0.0, 0.1, 0.7, 1.0]))
    first, second = (torch.rand(draw(st.integers(0, 4)), cells, generator=generator) < density for _ in range(2))
    return first, second, area


@given(cases())
def test_areas_overlaps_and_ratios_are_those_of_bool_masks(
    case: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    first, second, area = case
    one, other = PackedMasks.pack(first, area), PackedMasks.pack(second, area)
    np.testing.assert_array_equal(one.unpack(), first.numpy())
    np.testing.assert_array_equal(one.areas, mask_areas(first, area).numpy())
    np.testing.assert_array_equal(one.cell_areas(), area.numpy())
    np.testing.assert_array_equal(intersections(one, other), intersection_areas(first, second, area).numpy())
    np.testing.assert_allclose(iou(one, other), mask_iou(first, second, area).numpy(), atol=1e-6)
    both = PackedMasks.concatenate([one, other])
    np.testing.assert_array_equal(both.from_words(both.union()[None]).unpack()[0], torch.cat([first, second]).any(0))
    values = np.linspace(0, 1, len(area))
    expected = (first.numpy() * area.numpy() * values).sum(1) / np.maximum(mask_areas(first, area).numpy(), 1)
    np.testing.assert_allclose(one.mean_inside(values), expected)


@given(cases(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_a_match_is_a_mask_of_at_least_that_iou(
    case: tuple[torch.Tensor, torch.Tensor, torch.Tensor], least: float
) -> None:
    first, second, area = case
    one, other = PackedMasks.pack(first, area), PackedMasks.pack(second, area)
    expected = (iou(one, other) >= least).any(axis=1) if len(second) else np.zeros(len(first), dtype=bool)
    occupied = one.areas > 0
    np.testing.assert_array_equal(has_match(one, other, least)[occupied], expected[occupied])


def test_single_cells_can_be_asked() -> None:
    masks = PackedMasks.pack(torch.tensor([[False] * 70 + [True, False, True]]), torch.ones(73))
    assert masks.holds(0, np.array([72, 71, 70, 0])).tolist() == [True, False, True, False]


def test_a_dropped_mask_knows_what_dropped_it() -> None:
    masks = torch.zeros(4, 100, dtype=torch.bool)
    for row, cells in enumerate([range(10), range(9), range(50, 90), range(52, 90)]):
        masks[row, list(cells)] = True
    packed = PackedMasks.pack(masks, torch.ones(100))
    found = leaders(packed, np.array([0.5, 0.9, 0.7, 0.7]), np.full(4, 0.8))
    assert found.tolist() == [1, 1, 2, 2]


@given(cases())
def test_chosen_masks_are_the_same_masks(case: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    masks, _, area = case
    packed = PackedMasks.pack(masks, area)
    some = np.arange(len(masks)) % 2 == 0
    for chosen in (some, np.flatnonzero(some)[::-1], slice(1, None)):
        part = packed[chosen]
        bools = torch.from_numpy(masks.numpy()[chosen].copy())
        np.testing.assert_array_equal(part.unpack(), bools.numpy())
        np.testing.assert_array_equal(part.areas, mask_areas(bools, area).numpy())
        np.testing.assert_array_equal(part.cell_areas(), area.numpy())


def test_masks_of_words_weigh_their_cells_like_any_other() -> None:
    cells = torch.tensor([[True, True, False], [False, True, True]])
    packed = PackedMasks.pack(cells, torch.tensor([1.0, 2.0, 5.0]))
    joined = packed.from_words(packed.words[:1] | packed.words[1:])
    assert joined.areas.tolist() == [8]
    common = joined.from_words(joined.words & packed.words[1:])
    assert common.areas.tolist() == [7]
    assert intersections(joined, packed).tolist() == [[3, 7]]
    assert joined.mean_inside(np.array([8.0, 4.0, 0.0])).tolist() == [2.0]
