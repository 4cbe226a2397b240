"""Multi-level Mask Generation: a grid's masks by level, each level thinned its own way (E-SAM section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.prompting import best_of_each_prompt, decode_grid, passes_thresholds
from everymask.entities.superpixels import Superpixels
from everymask.masks.mask_set import Level, MaskSet
from everymask.masks.nms import cell_mask_nms
from everymask.masks.overlap import mask_areas, mask_iou


@dataclass(frozen=True)
class LevelMasks:
    """What MMG hands on.

    Attributes:
        objects: the refined object masks M̂_O, in descending predicted IoU.
        parts: part and subpart masks M_P ∪ M_SP, in descending predicted IoU.
    """

    objects: MaskSet
    parts: MaskSet


def generate_levels(
    backbone: PromptableBackbone, embedding: ImageEmbedding, superpixels: Superpixels, config: EntityConfig
) -> LevelMasks:
    """Prompt with a grid, sort each point's masks into levels, and thin every level.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    area = embedding.canvas.cell_area
    objects, parts, best_masks = [], [], []
    for answers in decode_grid(backbone, embedding, config):
        best_masks.append(answers.masks[best_of_each_prompt(answers)])
        confident = answers[passes_thresholds(answers, config, backbone.name)]
        objects.append(confident[confident.level == Level.OBJECT])
        parts.append(confident[confident.level != Level.OBJECT])
    return LevelMasks(
        objects=thin_objects(MaskSet.concatenate(objects), torch.cat(best_masks), area, config),
        parts=thin_parts(MaskSet.concatenate(parts), superpixels.density, area, config),
    )


def thin_objects(objects: MaskSet, best_masks: torch.Tensor, cell_area: torch.Tensor, config: EntityConfig) -> MaskSet:
    """NMS at θ_O, then eq. 2: only object masks that are found among (N, P) best masks stay."""
    kept = objects[cell_mask_nms(objects.masks, objects.predicted_iou, config.object_nms_thresh, cell_area)]
    if not len(kept):
        return kept
    match = mask_iou(kept.masks, best_masks, cell_area).amax(dim=1)
    return kept[match >= config.best_match_thresh]


def thin_parts(parts: MaskSet, density: torch.Tensor, cell_area: torch.Tensor, config: EntityConfig) -> MaskSet:
    """Adaptive NMS (eq. 4): a mask over dense regions tolerates more overlap, N_M = max(N_t, M_D(M)).

    M_D of a mask is the mean of the density map inside it.
    """
    inside = (parts.masks * (density * cell_area)).sum(dim=1)
    thresholds = (inside / mask_areas(parts.masks, cell_area).clamp_min(1)).clamp_min(config.part_nms_thresh)
    return parts[cell_mask_nms(parts.masks, parts.predicted_iou, thresholds, cell_area)]
