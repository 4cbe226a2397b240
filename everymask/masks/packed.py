"""Masks as bits in host memory: exact areas and overlaps of thousands of masks.

A mask of SAM's canvas takes 6 KiB. Two are compared in about a microsecond by `and` and counting bits; a matrix product
would need 200 KiB each. All results are exact, so CPU and GPU agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.constants import DeviceConstant, to_host

Words = NDArray[np.uint64]

_PLACES = DeviceConstant([128, 64, 32, 16, 8, 4, 2, 1], torch.uint8)


@dataclass(frozen=True)
class PackedMasks:
    """M masks over the P cells of one canvas.

    Attributes:
        words: (M, W) uint64, 64 cells to a word; the bits past the last cell are 0.
        areas: (M,) int64, canvas pixels in each mask.
        digits: (D, W) uint64: bit p of row d is binary digit d (least first) of cell p's area. One row of ones where
            every cell is one pixel.
        num_cells: P.
    """

    words: Words
    areas: NDArray[np.int64]
    digits: Words
    num_cells: int

    @classmethod
    def pack(cls, masks: torch.Tensor, cell_area: torch.Tensor) -> PackedMasks:
        """Pack (M, P) bool masks, from any device, over cells of (P,) whole pixels, best given on the host."""
        (bits,) = to_host(packed_bits(masks))
        return cls.of_bits(bits, cell_area)

    @classmethod
    def of_bits(cls, bits: NDArray[np.uint8], cell_area: torch.Tensor) -> PackedMasks:
        """The masks of `packed_bits`."""
        areas = cell_area.cpu().numpy().astype(np.int64)
        num_digits = max(1, int(areas.max(initial=1)).bit_length())
        digits = _pack_bits(((areas >> np.arange(num_digits)[:, None]) & 1).astype(np.bool_)).view(np.uint64)
        words = bits.view(np.uint64)
        return cls(words, _count(words, digits), digits, len(areas))

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: NDArray[np.int64] | slice) -> PackedMasks:
        """The masks at `index`: a slice, (K,) int64 positions or (M,) bool."""
        return PackedMasks(self.words[index], self.areas[index], self.digits, self.num_cells)

    @classmethod
    def concatenate(cls, sets: Sequence[PackedMasks]) -> PackedMasks:
        """The masks of at least one set over the same cells, in order."""
        words, areas = np.concatenate([one.words for one in sets]), np.concatenate([one.areas for one in sets])
        return cls(words, areas, sets[0].digits, sets[0].num_cells)

    def from_words(self, words: Words) -> PackedMasks:
        """Masks from (N, W) words over the same cells."""
        return PackedMasks(words, _count(words, self.digits), self.digits, self.num_cells)

    def unpack(self) -> NDArray[np.bool_]:
        """(M, P) bool."""
        bits = np.unpackbits(self.words.view(np.uint8), axis=1, count=self.num_cells)
        return bits.view(np.bool_)

    def holds(self, row: int, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(N,) bool: whether mask `row` holds each of the (N,) cells."""
        held: NDArray[np.bool_] = ((self.words[row].view(np.uint8)[cells >> 3] >> (7 - (cells & 7))) & 1).astype(bool)
        return held

    def shared_areas(self, words: Words, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.int64]:
        """(N,) int64 pixels that the mask (W,) `words` shares with each mask at `rows`."""
        span = _span(words)
        return _count(self.words[rows, span] & words[span], self.digits[:, span])

    def cell_areas(self) -> NDArray[np.int64]:
        """(P,) pixels in each cell."""
        bits = np.unpackbits(self.digits.view(np.uint8), axis=1, count=self.num_cells).astype(np.int64)
        areas: NDArray[np.int64] = (bits << np.arange(len(bits))[:, None]).sum(axis=0)
        return areas

    def mean_inside(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """(M,) mean of the (P,) values under each mask, weighted by cell area; 0 for an empty mask."""
        weighted = np.zeros(64 * self.words.shape[1])
        weighted[: self.num_cells] = values * self.cell_areas()
        sums = np.zeros(len(self))
        for row, words in enumerate(self.words):
            span = _span(words)
            bits = np.unpackbits(words[span].view(np.uint8))
            sums[row] = bits.astype(np.float64) @ weighted[64 * span.start : 64 * span.stop]
        means: NDArray[np.float64] = sums / np.maximum(self.areas, 1)
        return means

    def union(self) -> Words:
        """(W,) words of the cells in any mask."""
        union: Words = np.bitwise_or.reduce(self.words, axis=0)
        return union


def intersections(first: PackedMasks, second: PackedMasks) -> NDArray[np.int64]:
    """(N, M) int64: pixels in both masks of each pair."""
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)), dtype=np.int64)
    return np.stack([second.shared_areas(words) for words in first.words])


def iou(first: PackedMasks, second: PackedMasks) -> NDArray[np.float64]:
    """(N, M) float64 IoU in [0, 1]; 0 where both are empty."""
    inter = intersections(first, second)
    ratio: NDArray[np.float64] = inter / np.maximum(first.areas[:, None] + second.areas - inter, 1)
    return ratio


def has_match(first: PackedMasks, second: PackedMasks, least_iou: float) -> NDArray[np.bool_]:
    """(N,) bool: whether any mask of `second` has at least `least_iou` with each mask of `first`."""
    found = np.zeros(len(first), dtype=np.bool_)
    for row, (words, area) in enumerate(zip(first.words, first.areas, strict=True)):
        # IoU is at most the ratio of the areas.
        rows = np.flatnonzero((second.areas >= least_iou * area) & (second.areas * least_iou <= area))
        inter = second.shared_areas(words, rows)
        found[row] = bool((inter >= least_iou * (area + second.areas[rows] - inter)).any())
    return found


def leaders(masks: PackedMasks, scores: NDArray[np.floating], iou_thresh: NDArray[np.floating]) -> NDArray[np.int64]:
    """Greedy NMS that records, for each of M masks, the kept mask that dropped it.

    Args:
        scores: (M,); ties go to the lower index.
        iou_thresh: (M,) in [0, 1]: a kept mask drops masks with which its IoU exceeds its own threshold.

    Returns:
        (M,) int64 index of the kept mask; a kept mask has its own index.
    """
    leader = np.full(len(masks), -1, dtype=np.int64)
    for kept in np.argsort(-scores, kind="stable"):
        if leader[kept] >= 0:
            continue
        leader[kept] = kept
        area, thresh = masks.areas[kept], iou_thresh[kept]
        # IoU is at most the ratio of the areas, so most masks need no comparison.
        similar = (leader < 0) & (masks.areas >= thresh * area) & (masks.areas * thresh <= area)
        rows = np.flatnonzero(similar)
        inter = masks.shared_areas(masks.words[kept], rows)
        overlap = inter / np.maximum(area + masks.areas[rows] - inter, 1)
        leader[rows[overlap > thresh]] = kept
    return leader


def packed_bits(masks: torch.Tensor) -> torch.Tensor:
    """(M, P) bool → (M, 8 W) uint8 on the same device, eight cells to a byte: what is copied to the host."""
    if masks.device.type == "cpu":
        return torch.from_numpy(_pack_bits(masks.numpy()))
    padded = torch.nn.functional.pad(masks.view(torch.uint8), (0, -masks.shape[1] % 64))
    eights = padded.view(len(masks), padded.shape[1] // 8, 8)
    return (eights * _PLACES[masks.device]).sum(dim=2, dtype=torch.uint8)


def _pack_bits(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    packed = np.packbits(bits, axis=1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))


def _count(words: Words, digits: Words) -> NDArray[np.int64]:
    """(N, W) words → (N,) int64 pixels, each cell weighted by its area."""
    if len(digits) == 1:
        bits: NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.uint32).astype(np.int64)
        return bits
    total = np.zeros(len(words), dtype=np.int64)
    for place, digit in enumerate(digits):
        total += np.bitwise_count(words & digit).sum(axis=1, dtype=np.int64) << place
    return total


def _span(words: Words) -> slice:
    """The words between the first and the last non-zero one."""
    occupied = np.flatnonzero(words)
    return slice(int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else slice(0, 0)
