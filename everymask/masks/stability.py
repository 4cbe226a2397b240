"""SAM's stability score."""

from __future__ import annotations

import torch

from everymask.masks.overlap import mask_areas


def stability_scores(logits: torch.Tensor, cell_area: torch.Tensor, offset: float = 1.0) -> torch.Tensor:
    """IoU of each mask thresholded at +offset with itself thresholded at -offset.

    Args:
        logits: (..., P) mask logits over cells; > 0 is inside.
        cell_area: (P,) pixels in each cell.
        offset: in logits (SAM's `stability_score_offset`, 1.0 there).

    Returns:
        (...,) float in [0, 1]; 0 where even the lower threshold leaves nothing.
    """
    shape = logits.shape[:-1]
    flat = logits.reshape(-1, logits.shape[-1])
    # The stricter mask lies inside the looser one, so the ratio of their areas is their IoU.
    strict = mask_areas(flat > offset, cell_area)
    loose = mask_areas(flat > -offset, cell_area)
    return torch.where(loose > 0, strict / loose.clamp_min(1), 0).reshape(shape)
