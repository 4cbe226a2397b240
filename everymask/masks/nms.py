"""Greedy non-maximum suppression by mask IoU, with one threshold or one for every mask."""

from __future__ import annotations

import torch

from everymask.masks.overlap import mask_iou

_BLOCK = 128
"""Masks considered together; most masks are then compared with the few kept ones only."""


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


def cell_mask_nms(
    masks: torch.Tensor, scores: torch.Tensor, iou_thresh: float | torch.Tensor, cell_area: torch.Tensor
) -> torch.Tensor:
    """`mask_nms` of (M, P) bool masks over cells of area (P,), without the IoU of all pairs.

    Only the IoU with masks already kept decides, and few are kept, so this takes a fraction of the M² comparisons.
    """
    order = descending_order(scores)
    thresholds = torch.as_tensor(iou_thresh, dtype=torch.float32, device=masks.device).expand(len(masks))
    kept = order[:0]
    for block in torch.split(order, _BLOCK):
        dropped = (mask_iou(masks[kept], masks[block], cell_area) > thresholds[kept][:, None]).any(dim=0)
        rest = block[~dropped]
        iou = mask_iou(masks[rest], masks[rest], cell_area)
        kept = torch.cat([kept, rest[mask_nms(iou, scores[rest], thresholds[rest])]])
    return kept
