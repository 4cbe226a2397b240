"""Areas, intersections and IoU of masks over weighted cells, as matrix products.

Masks are (M, P) bool over the P cells of a `Canvas`; `cell_area` (P,) holds each cell's pixels. Every sum of areas is
exact: float32 holds integers up to 2²⁴; larger canvases are summed in float64.
"""

from __future__ import annotations

import torch

_LARGEST_EXACT_FLOAT32 = 2**24


def _exact_area(cell_area: torch.Tensor) -> torch.Tensor:
    """`cell_area` in the smallest float type in which every sum of areas is exact."""
    exact = float(cell_area.sum(dtype=torch.float64)) < _LARGEST_EXACT_FLOAT32
    return cell_area.to(torch.float32 if exact else torch.float64)


def mask_areas(masks: torch.Tensor, cell_area: torch.Tensor) -> torch.Tensor:
    """(M, P) bool → (M,) float, canvas pixels in each mask."""
    area = _exact_area(cell_area)
    return masks.to(area.dtype) @ area


def intersection_areas(first: torch.Tensor, second: torch.Tensor, cell_area: torch.Tensor) -> torch.Tensor:
    """(N, P) and (M, P) bool → (N, M) float, canvas pixels in both masks of each pair."""
    area = _exact_area(cell_area)
    # The smaller side carries the weights: one product with an array of its size instead of the larger one's.
    if first.shape[0] <= second.shape[0]:
        return (first * area) @ second.to(area.dtype).T
    return first.to(area.dtype) @ (second * area).T


def _ratio(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    return torch.where(whole > 0, part / whole.clamp_min(1), 0)


def mask_iou(first: torch.Tensor, second: torch.Tensor, cell_area: torch.Tensor) -> torch.Tensor:
    """(N, P) and (M, P) bool → (N, M) float IoU in [0, 1]; 0 where both are empty."""
    inter = intersection_areas(first, second, cell_area)
    union = mask_areas(first, cell_area)[:, None] + mask_areas(second, cell_area)[None, :] - inter
    return _ratio(inter, union)
