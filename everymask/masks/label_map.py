"""Disjoint masks at full resolution with smooth boundaries, from per-cell fields on a canvas."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from everymask.backbone.protocol import Canvas
from everymask.masks.boxes import boxes_from_cells

BACKGROUND = -1
_DISAGREEMENT = 0.25
"""Field value where the model's logit has the wrong sign; fields average 1 inside their region."""
_MIN_LOGIT = 1e-6
_BAND_PIXELS = 2**21
"""Pixels interpolated at a time, so that temporaries stay at a few tens of MiB."""
_BAND_VALUES = 2**26
"""On a GPU: regions x pixels interpolated at a time, 256 MiB."""
_REGIONS_AT_A_TIME = 64
_MARGIN = 3
"""Canvas pixels around a region that influence the edge of its enlarged field."""
_Box = tuple[int, int, int, int]
"""(x0, y0, x1, y1), half-open."""


class _Axis:
    """Bilinear sampling of one axis: output o blends `low[o]` and `high[o]`, the latter with weight `fraction[o]`."""

    def __init__(self, source: int, extent: float, target: int, device: torch.device) -> None:
        """Spread the centres of `target` pixels over the first `extent` of `source` pixels (`align_corners=False`)."""
        last = min(source, math.ceil(extent)) - 1
        position = (torch.arange(target, dtype=torch.float64) + 0.5) * (extent / target) - 0.5
        position = position.clamp(0, last)
        # Kept on the CPU as well: asking a GPU where every region begins would wait for it each time.
        self._low = position.floor().long()
        self._high = (self._low + 1).clamp_max(last)
        self.low, self.high = self._low.to(device), self._high.to(device)
        self.fraction = (position - self._low).to(device, torch.float32)

    def reading(self, start: int, stop: int) -> tuple[int, int]:
        """The range of outputs that read any source pixel in [start, stop)."""
        return int(torch.searchsorted(self._high, start)), int(torch.searchsorted(self._low, stop))

    def read_by(self, start: int, stop: int) -> tuple[int, int]:
        """The first and the last source pixel that outputs [start, stop) read."""
        return int(self._low[start]), int(self._high[stop - 1])


def _interpolate(field: torch.Tensor, rows: _Axis, columns: _Axis, box: _Box, origin: tuple[int, int]) -> torch.Tensor:
    """Values at a box's output pixels, from (..., h, w) windows of fields that begin at `origin` (row, column)."""
    x0, y0, x1, y1 = box
    row, column = origin
    low, high, fraction = rows.low[y0:y1] - row, rows.high[y0:y1] - row, rows.fraction[y0:y1, None]
    lines = torch.lerp(field[..., low, :], field[..., high, :], fraction)
    low, high, fraction = columns.low[x0:x1] - column, columns.high[x0:x1] - column, columns.fraction[None, x0:x1]
    return torch.lerp(lines[..., low], lines[..., high], fraction)


def full_resolution_label_map(masks: torch.Tensor, logits: torch.Tensor, canvas: Canvas) -> NDArray[np.int32]:
    """Bring disjoint regions from canvas cells to the original pixels.

    Each region's field (`region_fields`) is interpolated bilinearly, as the model's own post-processing would do it.
    Every original pixel goes to the region whose field is greatest there, if that is positive; a tie goes to the lower
    index. Between two regions the boundary thus runs where their fields cross, at a fraction of a canvas pixel.

    Args:
        masks: (M, P) bool, disjoint.
        logits: (M, P) float, each mask's own mask logits before it was cut or grown.
        canvas: the grid of the cells, and where the image lies on it.

    Returns:
        (H, W) int32 of original size, values in [0, M), `BACKGROUND` (-1) where no region is. A region narrower than a
        pixel may end up with none.
    """
    if not len(masks):
        return np.full(canvas.original_size_hw, BACKGROUND, dtype=np.int32)
    if masks.device.type == "cpu":
        return _region_by_region(masks, logits, canvas)
    return _band_by_band(region_fields(masks, logits), canvas)


def _axes(canvas: Canvas, device: torch.device) -> tuple[_Axis, _Axis]:
    rows, columns = (
        _Axis(canvas.enlarged_by * source, canvas.enlarged_by * extent, target, device)
        for source, extent, target in zip(canvas.size_hw, canvas.image_extent_hw, canvas.original_size_hw, strict=True)
    )
    return rows, columns


def _region_by_region(masks: torch.Tensor, logits: torch.Tensor, canvas: Canvas) -> NDArray[np.int32]:
    """Each region inside its own box only: the least arithmetic."""
    rows, columns = _axes(canvas, masks.device)
    factor = canvas.enlarged_by
    labels = torch.full(canvas.original_size_hw, BACKGROUND, dtype=torch.int32)
    best = torch.zeros(canvas.original_size_hw, dtype=torch.float32)
    boxes: list[_Box] = boxes_from_cells(masks, canvas).tolist()
    for region, (mask, own, (sx0, sy0, sx1, sy1)) in enumerate(zip(masks, logits, boxes, strict=True)):
        # Outside these outputs only values that are not positive are read.
        x0, x1 = columns.reading(factor * (sx0 - 1), factor * (sx1 + 1))
        y0, y1 = rows.reading(factor * (sy0 - 1), factor * (sy1 + 1))
        if sx1 == 0 or x1 <= x0:
            continue
        top, left = max(0, sy0 - _MARGIN), max(0, sx0 - _MARGIN)
        around = slice(top, sy1 + _MARGIN), slice(left, sx1 + _MARGIN)
        inside, values = canvas.window(mask, *around), canvas.window(own, *around).to(torch.float32)
        held = own[torch.from_numpy(np.flatnonzero(mask.numpy()))].to(torch.float32)[None]
        scale = _scale(held, torch.tensor([[held.numel()]]))
        window = _enlarged(_agreeing(values / scale, inside)[None], factor)[0]
        step = max(1, _BAND_PIXELS // (x1 - x0))
        for start in range(y0, y1, step):
            box = (x0, start, x1, min(start + step, y1))
            values = _interpolate(window, rows, columns, box, (factor * top, factor * left))
            here = (slice(box[1], box[3]), slice(x0, x1))
            labels[here].masked_fill_(values > best[here], region)
            torch.maximum(best[here], values, out=best[here])
    return labels.numpy()


def _band_by_band(fields: torch.Tensor, canvas: Canvas) -> NDArray[np.int32]:
    """All regions of a band of pixels at once: the fewest kernels, whose number does not grow with the regions."""
    rows, columns = _axes(canvas, fields.device)
    factor, (height, width) = canvas.enlarged_by, canvas.original_size_hw
    labels = torch.empty(canvas.original_size_hw, dtype=torch.int32, device=fields.device)
    # The lower index wins a tie.
    index = torch.arange(len(fields), 0, -1, dtype=torch.int32, device=fields.device)[:, None, None]
    step = max(1, _BAND_VALUES // (len(fields) * max(width, factor * canvas.size_hw[1])))
    for start in range(0, height, step):
        stop = min(start + step, height)
        first, last = rows.read_by(start, stop)
        top = max(0, first // factor - _MARGIN)
        window = canvas.window(fields, slice(top, last // factor + 1 + _MARGIN), slice(None)).to(torch.float32)
        window = _enlarged(window, factor)
        values = _interpolate(window, rows, columns, (0, start, width, stop), (factor * top, 0))
        best = values.amax(dim=0)
        winner = torch.where(values == best, index, 0).amax(dim=0)
        labels[start:stop] = torch.where(best > 0, len(fields) - winner, BACKGROUND)
    return labels.cpu().numpy()


def _enlarged(windows: torch.Tensor, factor: int) -> torch.Tensor:
    """(K, h, w) float32 → each side `factor` times as long."""
    if factor == 1:
        return windows
    return interpolate(windows[:, None], scale_factor=factor, mode="bilinear", align_corners=False)[:, 0]


def region_fields(masks: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Logits made to agree with disjoint masks, as `full_resolution_label_map` wants them.

    Each region's logits are divided by the mean of those inside the mask that agree with it, so that a confident region
    does not push a boundary into a less confident neighbour; where none agrees, by their mean magnitude inside. Unlike
    a limit, this leaves the place where a field crosses zero, and with it the edge of a region against the background,
    where the model put it.

    Args:
        masks: (M, P) bool, disjoint.
        logits: (M, P) float, each mask's own mask logits before it was cut or grown.

    Returns:
        (M, P) float32: the scaled logits; where the model's own sign disagrees with the mask, 0.25 inside and -0.25
        outside (our choice).
    """
    fields = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
    for start in range(0, len(logits), _REGIONS_AT_A_TIME):
        chunk = slice(start, start + _REGIONS_AT_A_TIME)
        mask, values = masks[chunk], logits[chunk].to(torch.float32)
        scale = _scale(torch.where(mask, values, 0), mask.sum(dim=1, keepdim=True))
        fields[chunk] = _agreeing(values / scale, mask)
    return fields


def _agreeing(scaled: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Scaled logits, made positive inside the mask and negative outside."""
    inside = torch.where(scaled > 0, scaled, _DISAGREEMENT)
    outside = torch.where(scaled > 0, -_DISAGREEMENT, scaled)
    return torch.where(mask, inside, outside)


def _scale(inside: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """(K, 1) positive numbers that divide logits of regions.

    Args:
        inside: (K, N) float32 logits inside the regions' masks; others are 0.
        count: (K, 1) cells inside each mask.
    """
    agreeing = (inside > 0).sum(dim=1, keepdim=True)
    mean = inside.clamp_min(0).sum(dim=1, keepdim=True) / agreeing.clamp_min(1)
    magnitude = inside.abs().sum(dim=1, keepdim=True) / count.clamp_min(1)
    scale = torch.where(agreeing > 0, mean, magnitude)
    return torch.where(scale > _MIN_LOGIT, scale, 1.0)
