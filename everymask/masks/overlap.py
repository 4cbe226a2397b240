"""Areas, intersections and IoU of masks over weighted cells, as matrix products.

Masks are (M, P) bool over the P cells of a `Canvas`; `cell_area` (P,) holds each cell's pixels, in a type in which
every sum of areas is exact, as `Canvas` keeps it.
"""

from __future__ import annotations

import torch


def mask_areas(masks: torch.Tensor, cell_area: torch.Tensor) -> torch.Tensor:
    """(M, P) bool → (M,) float, canvas pixels in each mask."""
    return masks.to(cell_area.dtype) @ cell_area


def intersection_areas(first: torch.Tensor, second: torch.Tensor, cell_area: torch.Tensor) -> torch.Tensor:
    """(N, P) and (M, P) bool → (N, M) float, canvas pixels in both masks of each pair."""
    # The smaller side carries the weights: one product with an array of its size instead of the larger one's.
    if first.shape[0] <= second.shape[0]:
        return (first * cell_area) @ second.to(cell_area.dtype).T
    return first.to(cell_area.dtype) @ (second * cell_area).T


def _ratio(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    return torch.where(whole > 0, part / whole.clamp_min(1), 0)


def mask_iou(first: torch.Tensor, second: torch.Tensor, cell_area: torch.Tensor) -> torch.Tensor:
    """(N, P) and (M, P) bool → (N, M) float IoU in [0, 1]; 0 where both are empty."""
    inter = intersection_areas(first, second, cell_area)
    union = mask_areas(first, cell_area)[:, None] + mask_areas(second, cell_area)[None, :] - inter
    return _ratio(inter, union)
