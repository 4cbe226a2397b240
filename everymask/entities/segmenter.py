"""E-SAM: one image's embedding → its entities (E-SAM section 3)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from everymask.backbone.protocol import Canvas, ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.consensus import GridAnswers
from everymask.entities.emr import refine_entities
from everymask.entities.mmg import automatic_masks, generate_levels
from everymask.entities.superpixels import find_superpixels
from everymask.entities.usr import fill_uncovered
from everymask.masks.label_map import full_resolution_label_map, region_fields
from everymask.masks.labelled import labelled_masks
from everymask.masks.mask_set import Level, MaskSet
from everymask.masks.nms import descending_order
from everymask.masks.packed import PackedMasks
from everymask.masks.rle import encode_label_map
from everymask.records import ImageLabels

_AREA_EXPONENT = 0.25
_CONSENSUS_EXPONENT = 0.5


@torch.inference_mode()
def segment_entities(backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig) -> ImageLabels:
    """Segment an image into disjoint entities.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    superpixels = find_superpixels(embedding, config.superpixels)
    if config.mmg:
        levels = generate_levels(backbone, embedding, superpixels, config)
        entities, parts, grid = levels.objects, levels.parts, levels.grid
    else:
        # EMR refines object masks (section 3.3): of masks of all levels it would keep parts beside wholes.
        entities, grid = automatic_masks(backbone, embedding, config, (Level.OBJECT,) if config.emr else tuple(Level))
        parts = PackedMasks.pack(entities.masks[:0], embedding.canvas.cell_area)
    if config.emr:
        entities = refine_entities(backbone, embedding, entities, superpixels, config)
    if config.usr:
        entities = fill_uncovered(backbone, embedding, entities, parts, superpixels, config)
    return entity_labels(entities, grid, embedding.canvas)


@torch.inference_mode()
def segment_objects(backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig) -> ImageLabels:
    """SAM's object level alone, overlaps resolved by score: the paper's second baseline (SAM^O in table 2).

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    objects, grid = automatic_masks(backbone, embedding, config, (Level.OBJECT,))
    return entity_labels(objects, grid, embedding.canvas)


def entity_scores(entities: MaskSet, grid: GridAnswers, cell_area: torch.Tensor) -> torch.Tensor:
    """(M,) float32 in [0, 1]: the model's estimate, lowered for changes to its mask and for disagreeing clicks.

    The estimate is of the mask that the model gave (`logits > 0`); the entity is that mask cut, grown or merged, so the
    estimate is multiplied by the IoU of the two. Of equal estimates the larger entity is right more often, so the score
    also grows with the fourth root of its share of the image, and with the square root of the grid's consensus. (Our
    choices; the paper does not say how entities are ranked.)
    """
    device = entities.predicted_iou.device
    found = PackedMasks.pack(entities.masks, cell_area)
    share = found.areas / found.cell_areas().sum()
    weight = torch.from_numpy(
        share**_AREA_EXPONENT * grid.consensus(found, objects_only=True) ** _CONSENSUS_EXPONENT
    ).to(device)
    scores = entities.predicted_iou * entity_agreement(entities, cell_area) * weight
    return scores.clamp(0, 1).to(torch.float32)


def entity_agreement(entities: MaskSet, cell_area: torch.Tensor) -> torch.Tensor:
    """(M,) float64 in [0, 1]: IoU of each entity with the mask that the model gave for it."""
    claimed = PackedMasks.pack(entities.logits > 0, cell_area)
    found = PackedMasks.pack(entities.masks, cell_area)
    inter = found.from_words(found.words & claimed.words).areas
    agreement = inter / np.maximum(found.areas + claimed.areas - inter, 1)
    return torch.from_numpy(agreement).to(entities.predicted_iou.device)


def entity_labels(entities: MaskSet, grid: GridAnswers, canvas: Canvas) -> ImageLabels:
    """Entities on canvas cells → labels at original resolution: disjoint, in descending score.

    Where entities still overlap (without EMR), the higher predicted IoU wins.
    """
    entities = entities[descending_order(entities.predicted_iou)]
    entities = replace(entities, masks=first_come(entities.masks))
    scores = entity_scores(entities, grid, canvas.cell_area)
    order = descending_order(scores)
    entities, scores = entities[order], scores[order]
    label_map = full_resolution_label_map(region_fields(entities.masks, entities.logits), canvas)
    rles = encode_label_map(label_map, len(entities))
    masks = labelled_masks(
        rles,
        predicted_iou=entities.predicted_iou.tolist(),
        stability_score=entities.stability_score.tolist(),
        point_coords=entities.point_coords.tolist(),
        score=scores.tolist(),
        agreement=entity_agreement(entities, canvas.cell_area).tolist(),
    )
    height, width = canvas.original_size_hw
    return ImageLabels((height, width), tuple(masks), sum(mask.area for mask in masks) / (height * width))


def first_come(masks: torch.Tensor) -> torch.Tensor:
    """(M, P) bool masks made disjoint: a cell stays in the first mask that holds it."""
    disjoint = masks.clone()
    taken = masks.new_zeros(masks.shape[1])
    for mask in disjoint:
        mask &= ~taken
        taken |= mask
    return disjoint
