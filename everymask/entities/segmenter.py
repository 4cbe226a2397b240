"""E-SAM: one image's embedding → its entities (E-SAM section 3)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.constants import to_host
from everymask.backbone.protocol import Canvas, ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.consensus import GridAnswers
from everymask.entities.emr import refine_entities
from everymask.entities.mmg import automatic_masks, generate_levels
from everymask.entities.superpixels import find_superpixels
from everymask.entities.usr import fill_uncovered
from everymask.masks.label_map import full_resolution_label_map
from everymask.masks.labelled import labelled_masks
from everymask.masks.mask_set import Level, MaskSet
from everymask.masks.nms import descending_order
from everymask.masks.packed import PackedMasks, packed_bits
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
        parts = PackedMasks.pack(entities.masks[:0], embedding.canvas.on_host.cell_area)
    if config.emr:
        entities = refine_entities(backbone, embedding, entities, superpixels, config)
    if config.usr:
        entities = fill_uncovered(backbone, embedding, entities, parts, superpixels, grid, config)
    return entity_labels(entities, grid, embedding.canvas)


@torch.inference_mode()
def segment_objects(backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig) -> ImageLabels:
    """SAM's object level alone, overlaps resolved by score: the paper's second baseline (SAM^O in table 2).

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    objects, grid = automatic_masks(backbone, embedding, config, (Level.OBJECT,))
    return entity_labels(objects, grid, embedding.canvas)


def entity_scores(
    predicted_iou: NDArray[np.float32], found: PackedMasks, claimed: PackedMasks, grid: GridAnswers
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(M,) scores in [0, 1], the model's estimate lowered for changes to its mask and for disagreeing clicks, and (M,)
    the IoU of each entity with the mask that the model gave for it.

    The estimate is of the mask that the model gave; the entity is that mask cut, grown or merged, so the estimate is
    multiplied by the IoU of the two. Of equal estimates the larger entity is right more often, so the score also grows
    with the fourth root of its share of the image, and with the square root of the grid's consensus. (Our choices; the
    paper does not say how entities are ranked.)

    Args:
        predicted_iou: (M,).
        found: M entities.
        claimed: M masks that the model gave for them.
        grid: the clicks that agree or not.
    """
    inter = found.from_words(found.words & claimed.words).areas
    agreement = inter / np.maximum(found.areas + claimed.areas - inter, 1)
    share = found.areas / found.cell_areas().sum()
    weight = share**_AREA_EXPONENT * grid.consensus(found, objects_only=True) ** _CONSENSUS_EXPONENT
    scores = (predicted_iou * agreement * weight).clip(0, 1).astype(np.float32)
    return scores, agreement


def entity_labels(entities: MaskSet, grid: GridAnswers, canvas: Canvas) -> ImageLabels:
    """Entities on canvas cells → labels at original resolution: disjoint, in descending score.

    Where entities still overlap (without EMR), the higher predicted IoU wins.
    """
    entities = entities[descending_order(entities.predicted_iou)]
    masks = first_come(entities.masks)
    bits, predicted_iou, stability_score, point_coords = to_host(
        packed_bits(torch.cat([masks, entities.logits > 0])),
        entities.predicted_iou,
        entities.stability_score,
        entities.point_coords,
    )
    both = PackedMasks.of_bits(bits, canvas.on_host.cell_area)
    scores, agreement = entity_scores(predicted_iou, both[: len(masks)], both[len(masks) :], grid)
    order = np.argsort(-scores, kind="stable")
    on_device = torch.from_numpy(order).to(masks.device)
    label_map = full_resolution_label_map(masks[on_device], entities.logits[on_device], canvas)
    labelled = labelled_masks(
        encode_label_map(label_map, len(entities)),
        predicted_iou=predicted_iou[order].tolist(),
        stability_score=stability_score[order].tolist(),
        point_coords=point_coords[order].tolist(),
        score=scores[order].tolist(),
        agreement=agreement[order].tolist(),
    )
    height, width = canvas.original_size_hw
    return ImageLabels((height, width), tuple(labelled), sum(mask.area for mask in labelled) / (height * width))


def first_come(masks: torch.Tensor) -> torch.Tensor:
    """(M, P) bool masks made disjoint: a cell stays in the first mask that holds it."""
    if masks.device.type != "cpu":
        return masks & (masks.cumsum(dim=0, dtype=torch.int32) == 1)
    # Rows in the cache, many times as fast as sums over all of them.
    first, taken = torch.empty_like(masks), np.zeros(masks.shape[1], dtype=np.bool_)
    for mask, own in zip(masks.numpy(), first.numpy(), strict=True):
        np.greater(mask, taken, out=own)
        np.logical_or(taken, mask, out=taken)
    return first
