"""Hand-made mask sets for tests of single modules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.masks.mask_set import Level, MaskSet


def mask_set(
    masks: Sequence[NDArray[np.bool_]], predicted_iou: Sequence[float], level: Level = Level.OBJECT
) -> MaskSet:
    """Masks (H, W) with certain logits; the prompting point of mask i is (i, i)."""
    flat = torch.from_numpy(np.stack(masks)).flatten(1)
    count = len(masks)
    return MaskSet(
        masks=flat,
        logits=torch.where(flat, 8.0, -8.0).to(torch.float16),
        predicted_iou=torch.tensor(predicted_iou),
        stability_score=torch.ones(count),
        point_coords=torch.arange(count, dtype=torch.float32)[:, None].expand(count, 2),
        level=torch.full((count,), int(level)),
        tokens=torch.zeros(count, 2),
    )


def pixels(masks: torch.Tensor, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(M, P) cells that are pixels → (M, H, W)."""
    return masks.reshape(-1, *size_hw).numpy()
