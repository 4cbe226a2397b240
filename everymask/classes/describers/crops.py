"""Cut masks out of a picture, so that an image encoder sees each like an exemplar: a picture of one object."""

from __future__ import annotations

import torch
from torch.nn.functional import grid_sample, interpolate, pad

from everymask.backbone.protocol import Canvas

GREY = 127.0
"""Fills the area beyond the picture, and veils the area outside the mask."""


def crop_masks(
    picture: torch.Tensor, canvas: Canvas, masks: torch.Tensor, side_px: int, margin: float, veil: float
) -> torch.Tensor:
    """A square around each mask, its surroundings veiled in grey.

    Args:
        picture: (h, w, 3) uint8 RGB, the whole image at any scale.
        canvas: the same image's canvas.
        masks: (M, P) bool over its cells, none empty.
        side_px: side of a crop.
        margin: side of the square in lengths of the longer side of the mask's box, at least 1.
        veil: share of grey outside the mask: 0 leaves the surroundings as they are, 1 hides them.

    Returns:
        (M, 3, side_px, side_px) float32 in [0, 255].
    """
    crops = torch.empty(len(masks), 3, side_px, side_px, device=picture.device)
    pixels = picture.permute(2, 0, 1)
    for index, mask in enumerate(canvas.to_pixels(masks)):
        square = _square_around(mask, canvas, picture.shape[:2], margin)
        crop = _cut(pixels, square, side_px)
        inside = _sample(mask, canvas, picture.shape[:2], square, side_px)
        shown = 1 - veil * (1 - inside)
        crops[index] = crop * shown + GREY * (1 - shown)
    return crops


def masks_over_picture(size_hw: torch.Size, canvas: Canvas, masks: torch.Tensor) -> torch.Tensor:
    """(M, P) bool masks over a picture of (h, w) pixels: (M, h, w) bool."""
    rows = torch.arange(size_hw[0], device=masks.device) + 0.5
    columns = torch.arange(size_hw[1], device=masks.device) + 0.5
    shown = [_sample_at(mask, canvas, size_hw, rows, columns) >= 0.5 for mask in canvas.to_pixels(masks)]
    return torch.stack(shown) if shown else torch.zeros(0, *size_hw, dtype=torch.bool, device=masks.device)


def _square_around(mask: torch.Tensor, canvas: Canvas, size_hw: torch.Size, margin: float) -> tuple[int, int, int]:
    """(left, top, side) in picture pixels of the square around a (H', W') mask; it may reach beyond the picture."""
    rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
    extent_height, extent_width = canvas.image_extent_hw
    down, across = size_hw[0] / extent_height, size_hw[1] / extent_width
    top, bottom = float(rows[0]) * down, float(rows[-1] + 1) * down
    left, right = float(columns[0]) * across, float(columns[-1] + 1) * across
    side = max(1, round(margin * max(bottom - top, right - left)))
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side


def _cut(pixels: torch.Tensor, square: tuple[int, int, int], side_px: int) -> torch.Tensor:
    """(3, h, w) uint8 → (3, side_px, side_px) float32, grey beyond the picture."""
    left, top, side = square
    height, width = pixels.shape[1:]
    part = pixels[:, max(0, top) : top + side, max(0, left) : left + side].float()
    beyond = (max(0, -left), max(0, left + side - width), max(0, -top), max(0, top + side - height))
    padded = pad(part, beyond, value=GREY)
    resized: torch.Tensor = interpolate(
        padded[None], (side_px, side_px), mode="bilinear", antialias=True, align_corners=False
    )
    return resized[0]


def _sample(
    mask: torch.Tensor, canvas: Canvas, size_hw: torch.Size, square: tuple[int, int, int], side_px: int
) -> torch.Tensor:
    """(H', W') mask under a square of picture pixels: (side_px, side_px) float32 in [0, 1], 0 beyond the canvas."""
    left, top, side = square
    steps = (torch.arange(side_px, device=mask.device) + 0.5) * (side / side_px)
    return _sample_at(mask, canvas, size_hw, top + steps, left + steps)


def _sample_at(
    mask: torch.Tensor, canvas: Canvas, size_hw: torch.Size, rows: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """(H', W') mask at (R,) rows and (C,) columns in picture pixels: (R, C) float32, bilinear, 0 beyond the canvas."""
    extent_height, extent_width = canvas.image_extent_hw
    down = rows * (extent_height / size_hw[0]) / mask.shape[0] * 2 - 1
    across = columns * (extent_width / size_hw[1]) / mask.shape[1] * 2 - 1
    grid = torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], dim=-1)
    return grid_sample(mask[None, None].float(), grid[None].float(), align_corners=False)[0, 0]
