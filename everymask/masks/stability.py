"""SAM's stability score."""

from __future__ import annotations

import torch

from everymask.masks.overlap import mask_areas
from everymask.masks.packed import PackedMasks


def above(logits: torch.Tensor, threshold: float) -> torch.Tensor:
    """Bool of the same shape: `logits > threshold`; float32 on a CPU by NumPy, which compares several times as fast."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return torch.from_numpy(logits.detach().numpy() > threshold)
    return logits > threshold


def stability_scores(logits: torch.Tensor, cell_area: torch.Tensor, offset: float = 1.0) -> torch.Tensor:
    """IoU of each mask thresholded at +offset with itself thresholded at -offset.

    Args:
        logits: (..., P) mask logits over cells; > 0 is inside.
        cell_area: (P,) whole pixels in each cell.
        offset: in logits (SAM's `stability_score_offset`, 1.0 there).

    Returns:
        (...,) float in [0, 1]; 0 where even the lower threshold leaves nothing.
    """
    shape = logits.shape[:-1]
    flat = logits.reshape(-1, logits.shape[-1])
    # The stricter mask lies inside the looser one, so the ratio of their areas is their IoU.
    strict, loose = (_areas(above(flat, threshold), cell_area) for threshold in (offset, -offset))
    return torch.where(loose > 0, strict / loose.clamp_min(1), 0).reshape(shape)


def _areas(masks: torch.Tensor, cell_area: torch.Tensor) -> torch.Tensor:
    """(M,) pixels in each mask, exact either way; a CPU counts bits faster than it multiplies."""
    if masks.device.type != "cpu":
        return mask_areas(masks, cell_area)
    return torch.from_numpy(PackedMasks.pack(masks, cell_area).areas).to(cell_area.dtype)
