"""Prompt points: a grid over an image, and groups of points that a model cannot distinguish."""

from __future__ import annotations

import torch


def point_grid(size_hw: tuple[int, int], points_per_side: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """(points_per_side², 2) float32 points (x, y), row by row, at the centres of equal boxes over an image (H, W)."""
    height, width = size_hw
    steps = (torch.arange(points_per_side, dtype=torch.float32, device=device) + 0.5) / points_per_side
    ys, xs = torch.meshgrid(steps * height, steps * width, indexing="ij")
    return torch.stack([xs.flatten(), ys.flatten()], dim=1)


def group_equal(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Group equal keys, (N,) or (N, K), in order of first appearance.

    Returns `representative` and `inverse` of `PromptableBackbone.distinct_points`.
    """
    unique, group = torch.unique(keys, dim=0, return_inverse=True)
    position = torch.arange(len(keys), device=keys.device)
    first = torch.full((len(unique),), len(keys), device=keys.device).scatter_reduce(0, group, position, reduce="amin")
    representative, order = first.sort()
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return representative, rank[group]
