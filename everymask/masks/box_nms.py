"""Greedy suppression of boxes by torchvision's kernel, without the rest of that package.

To import torchvision is to import torch's compiler: two seconds at the start of every worker and every replica.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch


def box_nms(boxes: torch.Tensor, scores: torch.Tensor, iou_thresh: float) -> torch.Tensor:
    """Indices of the boxes that overlap no box of a higher score by an IoU above a threshold.

    Args:
        boxes: (N, 4) float, (x0, y0, x1, y1).
        scores: (N,) float.
        iou_thresh: [0, 1].

    Returns:
        (K,) int64, by score, highest first.
    """
    return _kernel()(boxes, scores, iou_thresh)


@cache
def _kernel() -> Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]:
    found = importlib.util.find_spec("torchvision")
    folders = found.submodule_search_locations if found is not None else None
    for library in (path for folder in folders or () for path in sorted(Path(folder).glob("_C*.so"))):
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        kernel: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor] = torch.ops.torchvision.nms
        return kernel
    # Built in another way: the package knows where it is.
    from torchvision.ops import nms

    return nms  # type: ignore[no-any-return]
