"""Disjoint masks at full resolution with smooth boundaries, from per-cell fields on a canvas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.protocol import Canvas
from everymask.masks.boxes import boxes_from_masks

BACKGROUND = -1
_BAND_PIXELS = 2**21
"""Regions are interpolated in bands of about this many pixels, so that temporaries stay at a few tens of MiB."""


@dataclass(frozen=True)
class _Axis:
    """Bilinear sampling of one axis: output o reads `low[o]` and `high[o]`, the latter with weight `fraction[o]`."""

    low: torch.Tensor
    high: torch.Tensor
    fraction: torch.Tensor

    @classmethod
    def between(cls, source: int, target: int, device: torch.device) -> _Axis:
        """Pixel centres of `target` pixels laid over `source` pixels (`align_corners=False`)."""
        position = (torch.arange(target, device=device, dtype=torch.float64) + 0.5) * (source / target) - 0.5
        position = position.clamp(0, source - 1)
        low = position.floor().long()
        return cls(low, (low + 1).clamp_max(source - 1), (position - low).to(torch.float32))

    def reading(self, start: int, stop: int) -> tuple[int, int]:
        """The range of outputs that read a source pixel in [start, stop)."""
        touches = (self.high >= start) & (self.low < stop)
        positions = torch.nonzero(touches).flatten()
        return (int(positions[0]), int(positions[-1]) + 1) if positions.numel() else (0, 0)


def _interpolate(
    field: torch.Tensor, rows: _Axis, columns: _Axis, top: int, bottom: int, x0: int, x1: int
) -> torch.Tensor:
    """The (H', W') field at output rows [top, bottom) and columns [x0, x1)."""
    low, high, fraction = rows.low[top:bottom], rows.high[top:bottom], rows.fraction[top:bottom, None]
    lines = torch.lerp(field[low], field[high], fraction)
    low, high, fraction = columns.low[x0:x1], columns.high[x0:x1], columns.fraction[None, x0:x1]
    return torch.lerp(lines[:, low], lines[:, high], fraction)


def full_resolution_label_map(fields: torch.Tensor, canvas: Canvas) -> NDArray[np.int32]:
    """Bring disjoint regions from canvas cells to the original pixels.

    Every original pixel goes to the region whose bilinearly interpolated field is greatest there, if that is positive;
    a tie goes to the lower index. Between two regions the boundary thus runs where their fields cross, at a fraction of
    a canvas pixel.

    Args:
        fields: (M, P) float, positive on the cells of region m and negative elsewhere, the larger the more certain. No
            cell is positive in two fields.
        canvas: the grid of the cells.

    Returns:
        (H, W) int32 of original size, values in [0, M), `BACKGROUND` (-1) where no region is. A region narrower than a
        pixel may end up with none.
    """
    height, width = canvas.original_size_hw
    device = fields.device
    source_height, source_width = canvas.size_hw
    rows, columns = _Axis.between(source_height, height, device), _Axis.between(source_width, width, device)
    cell_index = canvas.cell_index.to(device)
    labels = torch.full((height, width), BACKGROUND, dtype=torch.int32, device=device)
    best = torch.zeros((height, width), dtype=torch.float32, device=device)
    for region, cell_field in enumerate(fields):
        field = cell_field.to(torch.float32)[cell_index]
        sx0, sy0, sx1, sy1 = boxes_from_masks((field > 0)[None])[0].tolist()
        # Outside this window only non-positive values are read.
        y0, y1 = rows.reading(sy0, sy1)
        x0, x1 = columns.reading(sx0, sx1)
        if sx1 == 0 or x1 == 0 or y1 == 0:
            continue
        step = max(1, _BAND_PIXELS // (x1 - x0))
        for top in range(y0, y1, step):
            bottom = min(top + step, y1)
            values = _interpolate(field, rows, columns, top, bottom, x0, x1)
            window = best[top:bottom, x0:x1]
            wins = values > window
            window[wins] = values[wins]
            labels[top:bottom, x0:x1][wins] = region
    return labels.cpu().numpy()


def region_fields(masks: torch.Tensor, logits: torch.Tensor, limit: float = 4.0) -> torch.Tensor:
    """Logits made to agree with disjoint masks, as `full_resolution_label_map` wants them.

    Args:
        masks: (M, P) bool, disjoint.
        logits: (M, P) float, each mask's own mask logits before it was cut or grown.
        limit: logits beyond ±limit count as the limit, so that a confident region does not push a boundary into a less
            confident neighbour.

    Returns:
        (M, P) float32: the logits, at least `limit / 4` inside and at most `-limit / 4` outside the mask where the
        model's own sign disagrees.
    """
    floor = limit / 4
    bounded = logits.to(torch.float32).clamp(-limit, limit)
    inside = torch.where(bounded > 0, bounded, floor)
    outside = torch.where(bounded > 0, -floor, bounded)
    return torch.where(masks, inside, outside)
