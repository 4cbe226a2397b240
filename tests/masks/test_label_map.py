from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from everymask.backbone.protocol import Canvas
from everymask.masks import label_map as label_map_module
from everymask.masks.label_map import full_resolution_label_map, region_fields


def pixel_canvas(canvas_hw: tuple[int, int], original_hw: tuple[int, int]) -> Canvas:
    """A canvas whose every pixel is a cell."""
    cells = canvas_hw[0] * canvas_hw[1]
    return Canvas(torch.arange(cells).reshape(canvas_hw), torch.ones(cells), original_hw)


def values_by_full_interpolation(fields: torch.Tensor, canvas: Canvas) -> NDArray[np.float32]:
    """The definition: every field at full size, and 0 for the background, which comes last: (M + 1, H, W)."""
    full = fields[:, canvas.cell_index][None]
    if canvas.enlarged_by > 1:
        full = interpolate(full, scale_factor=canvas.enlarged_by, mode="bilinear", align_corners=False)
    full = interpolate(full, canvas.original_size_hw, mode="bilinear", align_corners=False)[0]
    return torch.cat([full, torch.zeros_like(full[:1])]).numpy()


@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.tuples(st.integers(1, 23), st.integers(1, 23)),
    st.integers(1, 5),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_windows_and_bands_equal_interpolating_everything(
    canvas_hw: tuple[int, int],
    original_hw: tuple[int, int],
    regions: int,
    enlarged_by: int,
    in_order: bool,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    canvas = replace(pixel_canvas(canvas_hw, original_hw), enlarged_by=enlarged_by)
    if not in_order:
        cells = torch.randperm(canvas.num_cells, generator=generator)
        canvas = replace(canvas, cell_index=cells.reshape(canvas_hw))
    owner = torch.randint(-1, regions, (canvas.num_cells,), generator=generator)
    masks = owner[None] == torch.arange(regions)[:, None]
    logits = torch.randn(regions, canvas.num_cells, generator=generator) * 3
    fields = region_fields(masks, logits)
    labels = full_resolution_label_map(masks, logits, canvas)
    assert (labels.shape, labels.dtype) == (original_hw, np.int32)
    values = values_by_full_interpolation(fields, canvas)
    chosen = np.take_along_axis(values, labels[None] % values.shape[0], axis=0)[0]
    # Another order of operations may decide a near tie the other way; how near, goes by the largest value it adds up.
    rounding = 1e-6 * max(10.0, float(fields.abs().max()))
    np.testing.assert_allclose(chosen, values.max(0), atol=rounding)
    differ = label_map_module._band_by_band(fields, canvas) != labels
    assert not (np.abs(np.diff(np.sort(values, axis=0)[-2:], axis=0)[0])[differ] > rounding).any(), "a GPU's way"


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    canvas = pixel_canvas((6, 8), (50, 70))
    masks = torch.zeros(2, 48, dtype=torch.bool)
    masks[0, :20], masks[1, 20:] = True, True
    logits = torch.where(masks, 3.0, -3.0)
    whole = full_resolution_label_map(masks, logits, canvas)
    monkeypatch.setattr(label_map_module, "_BAND_PIXELS", 150)
    np.testing.assert_array_equal(full_resolution_label_map(masks, logits, canvas), whole)


def test_cells_of_equal_certainty_meet_in_the_middle() -> None:
    canvas = pixel_canvas((1, 4), (2, 40))
    masks = torch.tensor([[True, True, False, False], [False, False, True, True]])
    labels = full_resolution_label_map(masks, torch.where(masks, 2.0, -2.0), canvas)
    assert (labels == np.repeat([[0, 1]], 20, axis=1)).all()


def test_a_soft_edge_falls_between_canvas_pixels() -> None:
    canvas = pixel_canvas((1, 2), (1, 200))
    masks = torch.tensor([[True, False]])
    labels = full_resolution_label_map(masks, torch.tensor([[3.0, -1.0]]), canvas)
    # Centres at 50 and 150: the field crosses zero three quarters of the way.
    assert (labels[0] == 0).sum() == pytest.approx(125, abs=1)


def test_a_confident_region_does_not_push_into_a_less_confident_one() -> None:
    canvas = pixel_canvas((1, 2), (1, 200))
    masks = torch.tensor([[True, False], [False, True]])
    labels = full_resolution_label_map(masks, torch.tensor([[40.0, -40.0], [-0.1, 0.1]]), canvas)
    assert (labels[0] == 0).sum() == 100


def test_the_canvas_past_the_image_is_not_part_of_it() -> None:
    cells = torch.arange(6).reshape(2, 3)
    canvas = Canvas(cells, torch.ones(6), (4, 20), extent_hw=(2, 2.5))
    masks = torch.tensor([[True, False, False] * 2, [False, True, False] * 2, [False, False, True] * 2])
    labels = full_resolution_label_map(masks, torch.where(masks, 1.0, -1.0), canvas)
    # Eight pixels to a canvas pixel, and half a canvas pixel of the third region.
    np.testing.assert_array_equal(labels, np.repeat([[0] * 8 + [1] * 8 + [2] * 4], 4, axis=0))


def test_no_region_leaves_background() -> None:
    canvas = pixel_canvas((3, 3), (5, 4))
    for regions in (0, 1):
        nowhere = torch.zeros(regions, 9, dtype=torch.bool)
        assert (full_resolution_label_map(nowhere, torch.ones(regions, 9), canvas) == -1).all()


def test_fields_agree_with_masks_whatever_the_model_said() -> None:
    masks = torch.tensor([[True, True, False, False]])
    fields = region_fields(masks, torch.tensor([[9.0, -3.0, 2.0, -0.5]]))
    assert fields.tolist() == [[1.0, 0.25, -0.25, pytest.approx(-0.5 / 9)]]


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        # Nothing inside has the region's sign: the mean magnitude there is 6.
        ([-9.0, -3.0, 12.0, -0.6], [0.25, 0.25, -0.25, -0.1]),
        # All of it is zero: the logits stay as they are.
        ([0.0, 0.0, 2.0, -0.5], [0.25, 0.25, -0.25, -0.5]),
    ],
)
def test_a_region_without_a_logit_of_its_own_sign_has_a_field_of_usual_size(
    logits: list[float], expected: list[float]
) -> None:
    masks = torch.tensor([[True, True, False, False]])
    assert region_fields(masks, torch.tensor([logits]))[0].tolist() == pytest.approx(expected)
