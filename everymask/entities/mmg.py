"""Multi-level Mask Generation: a grid's masks by level, each level thinned its own way (E-SAM section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.constants import to_host
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.consensus import LEAST_CONSENSUS, GridAnswers
from everymask.entities.prompting import decode_grid
from everymask.entities.superpixels import Superpixels
from everymask.masks.box_nms import box_nms
from everymask.masks.boxes import boxes_from_cells
from everymask.masks.mask_set import Level, MaskSet
from everymask.masks.nms import packed_nms
from everymask.masks.packed import PackedMasks, has_match, packed_bits


@dataclass(frozen=True)
class LevelMasks:
    """The result of MMG.

    Attributes:
        objects: the refined object masks M̂_O, in descending predicted IoU.
        parts: part and subpart masks M_P ∪ M_SP, in descending predicted IoU.
        grid: all answers to the grid.
    """

    objects: MaskSet
    parts: PackedMasks
    grid: GridAnswers


def generate_levels(
    backbone: PromptableBackbone, embedding: ImageEmbedding, superpixels: Superpixels, config: EntityConfig
) -> LevelMasks:
    """Prompt with a grid, sort each point's masks into levels, and thin every level.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    objects, best, parts, scores, grid = [], [], [], [], []
    for answers in decode_grid(backbone, embedding, config):
        grid.append(answers.packed)
        best.append(answers.packed[answers.best()])
        rows = answers.confident(np.arange(len(answers.packed)), config, backbone.name)
        is_object = answers.level[rows] == Level.OBJECT
        objects.append(answers.take(rows[is_object]))
        parts.append(answers.packed[rows[~is_object]])
        scores.append(answers.predicted_iou[rows[~is_object]])
    part_masks, part_scores = PackedMasks.concatenate(parts), np.concatenate(scores)
    cell_area = embedding.canvas.on_host.cell_area
    everything = GridAnswers.gather(backbone, embedding, config.points_per_side, grid)
    thinned = thin_objects(MaskSet.concatenate(objects), PackedMasks.concatenate(best), cell_area, config)
    consensus = everything.consensus(PackedMasks.pack(thinned.masks, cell_area))
    agreed = np.flatnonzero(consensus >= LEAST_CONSENSUS)  # positions: a GPU would have to count what is true
    return LevelMasks(
        objects=thinned[torch.from_numpy(agreed).to(thinned.masks.device)],
        parts=thin_parts(part_masks, part_scores, superpixels.density, config),
        grid=everything,
    )


def thin_objects(objects: MaskSet, best: PackedMasks, cell_area: torch.Tensor, config: EntityConfig) -> MaskSet:
    """NMS at θ_O, then eq. 2: only object masks that are found among the best masks stay."""
    bits, predicted_iou = to_host(packed_bits(objects.masks), objects.predicted_iou)
    packed = PackedMasks.of_bits(bits, cell_area)
    kept = packed_nms(packed, predicted_iou, config.object_nms_thresh)
    kept = kept[has_match(packed[kept], best, config.best_match_thresh)]
    return objects[torch.from_numpy(kept).to(objects.masks.device)]


def thin_parts(
    parts: PackedMasks,
    scores: NDArray[np.float32],
    density: NDArray[np.float32],
    config: EntityConfig,
) -> PackedMasks:
    """Adaptive NMS (eq. 4): a mask over dense regions tolerates more overlap, N_M = max(N_t, M_D(M)).

    M_D of a mask is the mean of the density map inside it.

    Args:
        scores: (M,) predicted IoU.
        density: (P,).
    """
    thresholds = np.maximum(parts.mean_inside(density), config.part_nms_thresh)
    return parts[packed_nms(parts, scores, thresholds)]


_BOX_NMS_THRESH = 0.7
"""SAM's own, as in `AmgConfig`."""


def automatic_masks(
    backbone: PromptableBackbone,
    embedding: ImageEmbedding,
    config: EntityConfig,
    levels: tuple[Level, ...] = (Level.OBJECT, Level.PART, Level.SUBPART),
) -> tuple[MaskSet, GridAnswers]:
    """Masks of some levels after the thresholds and SAM's NMS on boxes, by predicted IoU, and all answers to the grid.

    The steps of `segment_amg`, on the canvas instead of at the image's resolution. The object level alone is SAM^O of
    table 2.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    batches, grid = [], []
    for answers in decode_grid(backbone, embedding, config):
        grid.append(answers.packed)
        rows = np.flatnonzero(np.isin(answers.level, levels))
        batches.append(answers.take(answers.confident(rows, config, backbone.name)))
    masks = MaskSet.concatenate(batches)
    boxes = boxes_from_cells(masks.masks, embedding.canvas).to(torch.float32)
    kept = masks[box_nms(boxes, masks.predicted_iou, _BOX_NMS_THRESH)]
    return kept, GridAnswers.gather(backbone, embedding, config.points_per_side, grid)
