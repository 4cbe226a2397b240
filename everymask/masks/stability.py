"""SAM's stability score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from everymask.masks.overlap import mask_areas
from everymask.masks.packed import PackedMasks, packed_bits

_LOGITS_AT_A_TIME = 2**18
"""A processor's cache keeps them until all thresholds have been held against them."""


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
    flat = logits.reshape(-1, logits.shape[-1])
    thresholds = offset, -offset
    if logits.device.type == "cpu":
        scores = _ratio(*(_areas(bits, cell_area) for bits in _bits_above(flat, thresholds)))
    else:
        scores = _ratio(*(mask_areas(flat > threshold, cell_area) for threshold in thresholds))
    return scores.reshape(logits.shape[:-1])


def rated_bits(logits: torch.Tensor, cell_area: torch.Tensor, offset: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The masks of (M, P) logits as `packed_bits`, and their `stability_scores`; a CPU reads the logits only once."""
    if logits.device.type != "cpu":
        return packed_bits(logits > 0), stability_scores(logits, cell_area, offset)
    bits, strict, loose = _bits_above(logits, (0.0, offset, -offset))
    return bits, _ratio(_areas(strict, cell_area), _areas(loose, cell_area))


def _ratio(strict: torch.Tensor, loose: torch.Tensor) -> torch.Tensor:
    """The stricter mask lies inside the looser one, so the ratio of their areas is their IoU."""
    return torch.where(loose > 0, strict / loose.clamp_min(1), 0)


def _areas(bits: torch.Tensor, cell_area: torch.Tensor) -> torch.Tensor:
    """(M,) pixels, which a CPU counts faster in bits than by a product."""
    return torch.from_numpy(PackedMasks.of_bits(bits.numpy(), cell_area).areas).to(cell_area.dtype)


def _bits_above(logits: torch.Tensor, thresholds: Sequence[float]) -> list[torch.Tensor]:
    """`packed_bits` of (M, P) logits on a CPU above each threshold."""
    values = logits.detach().to(torch.float32).numpy()
    count, cells = values.shape
    bits = np.zeros((len(thresholds), count, -(-cells // 64) * 8), dtype=np.uint8)
    eights = -(-cells // 8)
    at_a_time = max(1, _LOGITS_AT_A_TIME // max(1, cells))
    for start in range(0, count, at_a_time):
        some = slice(start, start + at_a_time)
        for of_threshold, threshold in zip(bits, thresholds, strict=True):
            of_threshold[some, :eights] = np.packbits(values[some] > threshold, axis=1)
    return [torch.from_numpy(of_threshold) for of_threshold in bits]
