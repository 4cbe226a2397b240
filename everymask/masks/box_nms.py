"""Greedy NMS of boxes with torchvision's order and arithmetic.

Importing torchvision would import torch's compiler: two seconds at the start of each worker.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def box_nms(boxes: torch.Tensor, scores: torch.Tensor, iou_thresh: float) -> torch.Tensor:
    """Indices of the boxes that greedy NMS keeps: none overlaps a better kept box by more than `iou_thresh`.

    On a GPU it waits once, for the boxes: the suppression is sequential, so it runs on the host.

    Args:
        boxes: (N, 4) float, (x0, y0, x1, y1).
        scores: (N,) float; ties go to the lower index.

    Returns:
        (K,) int64 by descending score, on the boxes' device.
    """
    together = torch.cat([boxes, scores[:, None].to(boxes.dtype)], dim=1).cpu()
    order = together[:, 4].sort(stable=True, descending=True).indices
    kept = order[torch.from_numpy(_leaders(together[order, :4].numpy(), iou_thresh))]
    return kept.to(boxes.device, non_blocking=True)


def _leaders(boxes: NDArray[np.floating], iou_thresh: float) -> NDArray[np.int64]:
    """Rows of (N, 4) boxes, best first, that no better kept box suppresses."""
    x0, y0, x1, y1 = boxes.T
    areas = (x1 - x0) * (y1 - y0)
    open_rows = np.arange(len(boxes))
    kept = []
    while len(open_rows):
        best, rest = open_rows[0], open_rows[1:]
        kept.append(best)
        width = np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest])
        height = np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(invalid="ignore"):  # two boxes without an area have no IoU, and neither goes
            iou = shared / (areas[best] + areas[rest] - shared)
        # In double precision, as torchvision compares: a threshold of 0.3 is less than the nearest single.
        open_rows = rest[~(iou.astype(np.float64) > iou_thresh)]
    return np.array(kept, dtype=np.int64)
