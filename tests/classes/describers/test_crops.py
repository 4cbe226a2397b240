"""Crops of masks against pixels cut by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from everymask.backbone.protocol import Canvas
from everymask.classes.describers.crops import GREY, crop_masks


def pixel_canvas(height: int, width: int, extent_hw: tuple[float, float] | None = None) -> Canvas:
    cells = torch.arange(height * width).view(height, width)
    return Canvas(cells, torch.ones(height * width), (40, 60), extent_hw)


def box_mask(canvas: Canvas, left: int, top: int, right: int, bottom: int) -> torch.Tensor:
    mask = torch.zeros(canvas.size_hw, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask.flatten()[None]


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def test_a_square_mask_without_a_veil_is_its_own_pixels(picture: torch.Tensor) -> None:
    canvas = pixel_canvas(40, 60)
    (crop,) = crop_masks(picture, canvas, box_mask(canvas, 10, 4, 26, 20), 16, margin=1.0, veil=0.0)
    torch.testing.assert_close(crop, picture[4:20, 10:26].permute(2, 0, 1).float())


def test_a_veil_greys_what_is_outside_the_mask_alone(picture: torch.Tensor) -> None:
    canvas = pixel_canvas(40, 60)
    (crop,) = crop_masks(picture, canvas, box_mask(canvas, 10, 4, 26, 12), 16, margin=1.0, veil=0.5)
    # The mask is 16 x 8, so its square reaches four rows above and below.
    pixels = picture[0:16, 10:26].permute(2, 0, 1).float()
    torch.testing.assert_close(crop[:, 5:11], pixels[:, 5:11])
    torch.testing.assert_close(crop[:, :3], (pixels[:, :3] + GREY) / 2)
    torch.testing.assert_close(crop[:, -3:], (pixels[:, -3:] + GREY) / 2)


def test_beyond_the_picture_is_grey(picture: torch.Tensor) -> None:
    canvas = pixel_canvas(40, 60)
    (crop,) = crop_masks(picture, canvas, box_mask(canvas, 0, 0, 8, 8), 16, margin=2.0, veil=0.0)
    assert (crop[:, :4] == GREY).all()
    assert (crop[:, :, :4] == GREY).all()
    torch.testing.assert_close(crop[:, 4:, 4:], picture[0:12, 0:12].permute(2, 0, 1).float())


def test_a_coarse_canvas_with_padding_below_the_image_cuts_where_the_mask_is(picture: torch.Tensor) -> None:
    fine = pixel_canvas(40, 60)
    # Half the resolution, and the image fills 20 of its 24 rows.
    coarse = pixel_canvas(24, 30, (20.0, 30.0))
    expected = crop_masks(picture, fine, box_mask(fine, 20, 24, 40, 40), 32, margin=1.2, veil=0.7)
    cut = crop_masks(picture, coarse, box_mask(coarse, 10, 12, 20, 20), 32, margin=1.2, veil=0.7)
    assert float((cut - expected).abs().mean()) < 4


def test_a_smaller_picture_gives_the_same_crop_less_sharp() -> None:
    rows = torch.linspace(0, 255, 40)[:, None, None].expand(40, 60, 3)
    canvas = pixel_canvas(40, 60)
    mask = box_mask(canvas, 20, 10, 40, 30)
    full = crop_masks(rows.to(torch.uint8), canvas, mask, 24, margin=1.2, veil=0.0)
    half = crop_masks(rows[::2, ::2].to(torch.uint8), canvas, mask, 24, margin=1.2, veil=0.0)
    assert float((full - half).abs().max()) < 8
