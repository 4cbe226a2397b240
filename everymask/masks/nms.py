"""Greedy non-maximum suppression by mask IoU, with one threshold for all masks or one for each."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.masks.packed import PackedMasks, leaders


def descending_order(scores: torch.Tensor) -> torch.Tensor:
    """(M,) scores → (M,) int64 indices from the highest; equal scores keep their order."""
    return torch.sort(scores, descending=True, stable=True).indices


def mask_nms(iou: torch.Tensor, scores: torch.Tensor, iou_thresh: float | torch.Tensor) -> torch.Tensor:
    """Keep the best mask, drop what overlaps it, repeat.

    Args:
        iou: (M, M) symmetric IoU in [0, 1].
        scores: (M,) float; ties go to the lower index.
        iou_thresh: a kept mask i drops every later j with `iou[i, j] > iou_thresh`; a tensor (M,) gives each kept mask
            its own threshold, as adaptive NMS does (Liu et al. 2019; E-SAM eq. 4).

    Returns:
        (K,) int64 indices of the kept masks, in descending score.
    """
    count = scores.shape[0]
    order = descending_order(scores)
    thresholds = torch.as_tensor(iou_thresh, dtype=iou.dtype, device=iou.device).expand(count)
    # drops[i, j]: mask i, once kept, drops j. The loop below is sequential, so it runs on the CPU on plain arrays.
    drops = (iou > thresholds[:, None])[order][:, order].cpu().numpy()
    alive = torch.ones(count, dtype=torch.bool).numpy()
    kept = []
    for position in range(count):
        if alive[position]:
            kept.append(position)
            alive &= ~drops[position]
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]


def packed_nms(
    masks: PackedMasks, scores: NDArray[np.floating], iou_thresh: float | NDArray[np.floating]
) -> NDArray[np.int64]:
    """`mask_nms` of packed masks, without computing the IoU of all pairs."""
    leader = leaders(masks, scores, np.broadcast_to(np.float64(iou_thresh), len(masks)))
    kept = np.flatnonzero(leader == np.arange(len(masks)))
    order: NDArray[np.int64] = kept[np.argsort(-scores[kept], kind="stable")]
    return order


def cell_mask_nms(
    masks: torch.Tensor, scores: torch.Tensor, iou_thresh: float | torch.Tensor, cell_area: torch.Tensor
) -> torch.Tensor:
    """`packed_nms` of (M, P) bool masks over cells of area (P,), indices on their device."""
    thresholds = torch.as_tensor(iou_thresh).cpu().numpy()
    kept = packed_nms(PackedMasks.pack(masks, cell_area), scores.cpu().numpy(), thresholds)
    return torch.from_numpy(kept).to(masks.device)
