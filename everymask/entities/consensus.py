"""The share of the grid's clicks inside a mask that were answered with that mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.backbone.constants import to_host
from everymask.backbone.points import point_grid
from everymask.backbone.protocol import MASKS_PER_PROMPT, ImageEmbedding, PromptableBackbone
from everymask.masks.packed import PackedMasks

_SAME_MASK_IOU = 0.7
"""An answer with at least this IoU is the mask (our choice)."""
LEAST_CONSENSUS = 0.15
"""A mask given by a smaller share of the clicks inside it is mostly the whole picture, or two objects in one (our
choice)."""


@dataclass(frozen=True)
class GridAnswers:
    """The masks that a grid of clicks was answered with; clicks that the backbone cannot tell apart share an answer.

    Attributes:
        masks: 3N, three neighbours an answer.
        cells: (C,) int64, the cell under each click.
        answer: (C,) int64 in [0, N), the answer to each click.
    """

    masks: PackedMasks
    cells: NDArray[np.int64]
    answer: NDArray[np.int64]

    @classmethod
    def gather(
        cls,
        backbone: PromptableBackbone,
        embedding: ImageEmbedding,
        points_per_side: int,
        batches: Sequence[PackedMasks],
    ) -> GridAnswers:
        """Join the masks of `decode_grid`'s batches, of which there is at least one."""
        canvas = embedding.canvas
        points = point_grid(canvas.original_size_hw, points_per_side, canvas.cell_area.device)
        _, answer = backbone.distinct_points(embedding, points)
        cells, answer_of_point = to_host(canvas.cells_at(points), answer)
        return cls(PackedMasks.concatenate(batches), cells, answer_of_point)

    def consensus(self, masks: PackedMasks, objects_only: bool = False) -> NDArray[np.float64]:
        """(M,) in (0, 1): share of the clicks inside each mask answered with it, on any level or only as their object.

        One click for and one against are added, since few clicks prove little (Laplace's rule; our choice).
        """
        counted = np.ones(len(self.masks), dtype=np.bool_)
        if objects_only:
            areas = self.masks.areas.reshape(-1, MASKS_PER_PROMPT)
            counted = (np.arange(MASKS_PER_PROMPT) == areas.argmax(axis=1)[:, None]).ravel()
        answers = len(self.masks) // MASKS_PER_PROMPT
        shares = np.zeros(len(masks))
        for row, (words, area) in enumerate(zip(masks.words, masks.areas, strict=True)):
            asked = self.answer[masks.holds(row, self.cells)]
            given = np.flatnonzero(_is_in(asked, answers))
            rows = (given[:, None] * MASKS_PER_PROMPT + np.arange(MASKS_PER_PROMPT)).ravel()
            # IoU is at most the ratio of the areas.
            areas = self.masks.areas[rows]
            rows = rows[counted[rows] & (areas >= _SAME_MASK_IOU * area) & (areas * _SAME_MASK_IOU <= area)]
            inter = self.masks.shared_areas(words, rows)
            rows = rows[inter >= _SAME_MASK_IOU * (area + self.masks.areas[rows] - inter)]
            same = _is_in(rows // MASKS_PER_PROMPT, answers)[asked]
            shares[row] = (same.sum() + 1) / (len(asked) + 2)
        return shares


def _is_in(numbers: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """(count,) bool: whether each number from 0 is among `numbers`; without sorting them."""
    found = np.zeros(count, dtype=np.bool_)
    found[numbers] = True
    return found
