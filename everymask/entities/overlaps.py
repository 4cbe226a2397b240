"""EMR's first half: settle every overlap of two masks (E-SAM section 3.3, eq. 5 and 6)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.constants import to_host
from everymask.entities.config import EntityConfig
from everymask.entities.gallery import Gallery
from everymask.masks.mask_set import MaskSet
from everymask.masks.nms import descending_order
from everymask.masks.packed import PackedMasks, intersections, iou, packed_bits


def split_overlaps(candidates: MaskSet, gallery: Gallery, cell_area: torch.Tensor, config: EntityConfig) -> MaskSet:
    """Eq. 5-6: settle every overlap, in descending predicted IoU.

    A mask with too little left is dropped at once and takes nothing from later masks. All masks move to the host once,
    so a GPU waits as often for two overlaps as for two thousand.
    """
    order = descending_order(candidates.predicted_iou)
    bits, rows = to_host(packed_bits(candidates.masks), order)
    settlement = _Settlement(PackedMasks.of_bits(bits[rows], cell_area), gallery, config)
    for p, q in settlement.pairs:
        settlement.settle(int(p), int(q))
    survivors = (settlement.areas > 0) & (settlement.areas >= settlement.least)
    device = candidates.masks.device
    kept = candidates[torch.from_numpy(rows[survivors]).to(device)]
    return replace(kept, masks=torch.from_numpy(settlement.masks[survivors]).to(device))


class _Settlement:
    """Masks that shrink, pair after pair.

    Attributes:
        masks: (M, P) bool, the rest of each.
        areas: (M,) their pixels.
        least: (M,) pixels under which a mask is dropped.
        pairs: (K, 2) the initial overlaps, p before q; masks only shrink, so no others arise.
    """

    def __init__(self, packed: PackedMasks, gallery: Gallery, config: EntityConfig) -> None:
        self._config = config
        self._cell_areas = packed.cell_areas()
        self.masks = packed.unpack()
        self.areas = packed.areas.copy()
        self.least = config.remnant_thresh * packed.areas
        inter = np.triu(intersections(packed, packed), 1)
        self.pairs = np.argwhere(inter > 0)
        occupied = [np.flatnonzero(mask) for mask in self.masks]
        self._first = [int(cells[0]) if len(cells) else 0 for cells in occupied]
        self._stop = [int(cells[-1]) + 1 if len(cells) else 0 for cells in occupied]
        # A mask that shrinks below its least area is dropped, so no other overlap can ever count as large.
        largest = np.maximum(packed.areas[:, None], packed.areas)
        contestable = (inter > 0) & (inter >= config.overlap_thresh * config.remnant_thresh * largest)
        region = np.zeros_like(packed.digits[0])
        for p, q in np.argwhere(contestable):
            region |= packed.words[p] & packed.words[q]
        self._votes = gallery.votes(packed.from_words(region[None]).unpack()[0])
        self._resemblance = iou(self._votes.masks, packed)

    def settle(self, p: int, q: int) -> None:
        """Take the overlap of mask p with the less confident mask q from one of them, or part of it from each."""
        if not self.areas[p] or not self.areas[q]:
            return
        start, stop = max(self._first[p], self._first[q]), min(self._stop[p], self._stop[q])
        inside = self.masks[p, start:stop] & self.masks[q, start:stop]
        cells = np.flatnonzero(inside) + start
        if not len(cells):
            return
        overlap = self._cell_areas[cells].sum()
        if overlap / max(self.areas[p], self.areas[q]) < self._config.overlap_thresh:
            self._remove(p if self.areas[p] >= self.areas[q] else q, cells)
            return
        for_p = self._share_of_p(p, q, cells, self._votes.most_frequent(inside, start))
        self._remove(q, cells[for_p])
        self._remove(p, cells[~for_p])
        for mask in (p, q):
            if self.areas[mask] < self.least[mask]:
                self.masks[mask] = False
                self.areas[mask] = 0

    def _share_of_p(self, p: int, q: int, cells: NDArray[np.int64], guidance: int | None) -> NDArray[np.bool_]:
        """(N,) bool: the cells of the overlap that mask p keeps. Without guidance p, the more confident, keeps all.

        What the guidance mask G_p covers of the overlap goes to the mask that it resembles more, the rest to the other
        (our choice; the paper only says that it updates both).
        """
        if guidance is None:
            return np.ones(len(cells), dtype=np.bool_)
        held = self._votes.masks.holds(guidance, cells)
        return held if self._resemblance[guidance, p] >= self._resemblance[guidance, q] else ~held

    def _remove(self, mask: int, cells: NDArray[np.int64]) -> None:
        self.masks[mask, cells] = False
        self.areas[mask] -= self._cell_areas[cells].sum()
