"""Where a canvas lies on its image."""

from __future__ import annotations

import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from everymask.backbone import protocol
from everymask.backbone.protocol import Canvas


def canvas_of(size_hw: tuple[int, int], original_size_hw: tuple[int, int], extent_hw: tuple[float, float]) -> Canvas:
    cells = size_hw[0] * size_hw[1]
    return Canvas(torch.arange(cells).reshape(size_hw), torch.ones(cells), original_size_hw, extent_hw)


@st.composite
def canvases(draw: st.DrawFn) -> Canvas:
    """Both sides scaled on their own, the image ending anywhere in the last canvas pixels."""
    size_hw = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    extent_hw = tuple(draw(st.floats(max(0.1, side - 2), side)) for side in size_hw)
    original_size_hw = draw(st.integers(1, 4000)), draw(st.integers(1, 4000))
    return canvas_of(size_hw, original_size_hw, (extent_hw[0], extent_hw[1]))


@given(canvases(), st.floats(0, 1), st.floats(0, 1))
def test_points_return_from_the_canvas(canvas: Canvas, x: float, y: float) -> None:
    height, width = canvas.original_size_hw
    point = torch.tensor([[x * width, y * height]], dtype=torch.float64)
    torch.testing.assert_close(canvas.to_original(canvas.to_canvas(point)), point)
    # Through the whole pixel: never further than half a canvas pixel, but for a last pixel that ends with the image.
    pixel = canvas.canvas_coords(point)
    back = canvas.to_canvas(canvas.to_original(pixel.double() + 0.5))
    assert (back - canvas.to_canvas(point)).abs().max() <= 0.5 + 1e-9
    column, row = pixel[0].tolist()
    assert canvas.cells_at(point).item() == row * canvas.size_hw[1] + column


def test_the_last_canvas_pixels_hold_no_point() -> None:
    canvas = canvas_of((5, 8), (64, 160), (3.2, 8))
    assert canvas.canvas_coords(torch.tensor([[159.9, 63.9], [0.0, 0.0]])).tolist() == [[7, 3], [0, 0]]
    assert canvas.scale_xy == pytest.approx((0.05, 0.05))


def test_points_past_the_image_are_brought_to_its_edge() -> None:
    canvas = canvas_of((4, 4), (40, 40), (3.5, 4))
    assert canvas.to_original(torch.tensor([[-1.0, 3.9]])).tolist() == [[0.0, 40.0]]


@pytest.mark.parametrize("extent_hw", [(0, 4), (4.5, 4)])
def test_an_extent_outside_the_canvas_is_refused(extent_hw: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="inside the canvas"):
        canvas_of((4, 4), (40, 40), extent_hw)


def test_areas_are_kept_in_a_type_in_which_their_sums_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, areas = torch.tensor([[0, 0, 1, 1]]), torch.tensor([2, 2])
    assert Canvas(cells, areas, (1, 4)).cell_area.dtype == torch.float32
    monkeypatch.setattr(protocol, "_LARGEST_EXACT_FLOAT32", 3)
    assert Canvas(cells, areas, (1, 4)).cell_area.dtype == torch.float64


def test_a_canvas_that_was_asked_for_its_copy_on_the_host_is_freed_at_once() -> None:
    canvas = canvas_of((4, 6), (4, 6), (4, 6))
    assert canvas.on_host is canvas
    known = weakref.ref(canvas)
    del canvas
    assert known() is None, "half a MiB an image that waits for the collector"
