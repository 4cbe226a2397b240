"""The mask gallery G: a dense grid's answers, decoded only where needed (E-SAM sections 3.2 and 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.constants import to_host
from everymask.backbone.points import point_grid
from everymask.backbone.protocol import MASKS_PER_PROMPT, ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.prompting import confidence_thresholds, decode_batches
from everymask.masks.packed import PackedMasks, leaders

_UNASKED, _UNSURE = -1, -2


@dataclass(frozen=True)
class Votes:
    """The guidance masks G_p (eq. 6) of all grid points in a region, nearly equal ones counted as one.

    Attributes:
        masks: L masks, the most confident of each group, in descending predicted IoU.
        cells: (N,) int64, ascending: the cells of the points that vote.
        choice: (N,) int64 in [0, L): the mask each votes for.
    """

    masks: PackedMasks
    cells: NDArray[np.int64]
    choice: NDArray[np.int64]

    def most_frequent(self, inside: NDArray[np.bool_], first_cell: int) -> int | None:
        """The mask with the most votes, of equals the most confident; None without votes.

        Args:
            inside: the cells that count, from `first_cell` on.
        """
        start, stop = np.searchsorted(self.cells, (first_cell, first_cell + len(inside)))
        choice = self.choice[start:stop][inside[self.cells[start:stop] - first_cell]]
        return int(np.bincount(choice).argmax()) if len(choice) else None


class Gallery:
    """Guidance masks (eq. 6) of a dense point grid; a prompt whose mask is not confident has none, since the paper
    speaks of high-confidence masks (section 1).

    A prompt is decoded when a region that holds it is first consulted, or at the start if the gallery is eager. The
    answers are the same either way.

    Attributes:
        masks: the guidance masks decoded so far.
        predicted_iou: float32 of each.
    """

    def __init__(self, backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig) -> None:
        self._backbone = backbone
        self._embedding = embedding
        self._config = config
        canvas = embedding.canvas
        points = point_grid(canvas.original_size_hw, config.gallery_points_per_side, canvas.cell_area.device)
        representative, prompt_of_point = backbone.distinct_points(embedding, points)
        self._prompts = points[representative]
        self._prompt_of_point, self._cell_of_point = to_host(prompt_of_point, canvas.cells_at(points))
        self._row_of_prompt = np.full(len(self._prompts), _UNASKED)
        empty = torch.zeros((0, canvas.num_cells), dtype=torch.bool)
        self.masks = PackedMasks.pack(empty, canvas.on_host.cell_area)
        self.predicted_iou = np.zeros(0, dtype=np.float32)
        if not config.lazy_gallery:
            self.prepare(np.ones(canvas.num_cells, dtype=np.bool_))

    def prepare(self, region: NDArray[np.bool_]) -> None:
        """Decode every prompt in the (P,) region that is not decoded yet, in full batches.

        Raises:
            ModelOutputError: the backbone answered with NaN or infinity.
        """
        prompts = np.unique(self._prompt_of_point[region[self._cell_of_point]])
        missing = prompts[self._row_of_prompt[prompts] == _UNASKED]
        if not len(missing):
            return
        points = self._prompts[torch.from_numpy(missing).to(self._prompts.device)]
        masks, scores, sure = [self.masks], [self.predicted_iou], []
        # A prompt whose best mask is not confident has no guidance.
        least = confidence_thresholds(self._backbone.name, self._config.pred_iou_thresh).pred_iou
        for answers in decode_batches(self._backbone, self._embedding, points, self._config, least):
            rows = answers.confident(answers.guidance(self._config), self._config, self._backbone.name)
            masks.append(answers.packed[rows])
            scores.append(answers.predicted_iou[rows])
            sure.append(np.isin(np.arange(len(answers.packed) // MASKS_PER_PROMPT), rows // MASKS_PER_PROMPT))
        is_sure = np.concatenate(sure)
        self._row_of_prompt[missing] = np.where(is_sure, len(self.masks) + np.cumsum(is_sure) - 1, _UNSURE)
        self.masks, self.predicted_iou = PackedMasks.concatenate(masks), np.concatenate(scores)

    def votes(self, region: NDArray[np.bool_]) -> Votes:
        """What the grid points in the (P,) region vote for.

        Raises:
            ModelOutputError: the backbone answered with NaN or infinity.
        """
        self.prepare(region)
        points = np.flatnonzero(region[self._cell_of_point])
        rows = self._row_of_prompt[self._prompt_of_point[points]]
        points, rows = points[rows >= 0], rows[rows >= 0]
        # In the order of the grid, so that of equally sure masks the earlier prompt's stands for its group.
        asked, first, which = np.unique(rows, return_index=True, return_inverse=True)
        order = np.argsort(first)
        asked, which = asked[order], np.argsort(order)[which]
        scores = self.predicted_iou[asked]
        leader = leaders(self.masks[asked], scores, np.full(len(asked), self._config.vote_iou_thresh))
        kept = np.flatnonzero(leader == np.arange(len(asked)))
        kept = kept[np.argsort(-scores[kept], kind="stable")]
        group = np.zeros(len(asked), dtype=np.int64)
        group[kept] = np.arange(len(kept))
        by_cell = np.argsort(self._cell_of_point[points], kind="stable")
        return Votes(
            masks=self.masks[asked[kept]],
            cells=self._cell_of_point[points][by_cell],
            choice=group[leader[which]][by_cell],
        )

    def rows_in(self, region: NDArray[np.bool_]) -> NDArray[np.int64]:
        """(K,) rows of `masks`: the guidance of the prompts in the (P,) region, in the order of the grid.

        Raises:
            ModelOutputError: the backbone answered with NaN or infinity.
        """
        self.prepare(region)
        rows: NDArray[np.int64] = self._row_of_prompt[np.unique(self._prompt_of_point[region[self._cell_of_point]])]
        known: NDArray[np.int64] = rows[rows >= 0]
        return known
