"""Under-Segmentation Refinement: what no entity covers prompts the model again (E-SAM section 3.4)."""

from __future__ import annotations

from dataclasses import replace

import torch

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.prompting import decode_batches, guidance_of_each_prompt
from everymask.entities.superpixels import Superpixels
from everymask.masks.mask_set import MaskSet
from everymask.masks.overlap import mask_areas, mask_containment, mask_iou

_UNCOVERED_SHARE = 0.5
"""A superpixel is uncovered when less than this share of it is in some entity (our choice)."""


def fill_uncovered(
    backbone: PromptableBackbone,
    embedding: ImageEmbedding,
    entities: MaskSet,
    parts: MaskSet,
    superpixels: Superpixels,
    config: EntityConfig,
) -> MaskSet:
    """The entity map with its gaps prompted and filled.

    Of a prompt's three masks the one that eq. 6 would choose counts as its additional mask (the paper does not say).

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    cell_area = embedding.canvas.cell_area
    points = additional_prompts(embedding, entities, parts, superpixels, config)
    points = points[backbone.distinct_points(embedding, points)[0]]
    batches = decode_batches(backbone, embedding, points, config)
    additional = MaskSet.concatenate(
        [answers[guidance_of_each_prompt(answers, config.guidance_tolerance)] for answers in batches]
    )
    return greedy_cover(entities, additional, cell_area, config)


def additional_prompts(
    embedding: ImageEmbedding, entities: MaskSet, parts: MaskSet, superpixels: Superpixels, config: EntityConfig
) -> torch.Tensor:
    """P_A (eq. 9): (N, 2) points (x, y) in original pixels, one for each superpixel the entities leave uncovered.

    A superpixel inside a part or subpart mask is prompted at that mask's centroid, of the most confident mask when
    there are several; any other at its own centroid.
    """
    canvas = embedding.canvas
    covered = entities.masks.any(dim=0)
    share = mask_containment(superpixels.masks, covered[None], canvas.cell_area)[:, 0]
    remaining = torch.nonzero((share < _UNCOVERED_SHARE) & superpixels.masks.any(dim=1)).flatten()
    points = superpixels.centroids[remaining]
    if not len(parts) or not remaining.numel():
        return points
    inside = mask_containment(superpixels.masks[remaining], parts.masks, canvas.cell_area) >= config.merge_cover_thresh
    confidence = torch.where(inside, parts.predicted_iou, -torch.inf)
    best, part = confidence.max(dim=1)
    return torch.where((best > -torch.inf)[:, None], mask_centroids(embedding, parts.masks)[part], points)


def mask_centroids(embedding: ImageEmbedding, masks: torch.Tensor) -> torch.Tensor:
    """(M, P) bool masks, none empty → (M, 2) float32 (x, y) in original pixels, the mean of each mask's pixels.

    Of a canvas pixel that reaches past the image, only the part under the image counts.
    """
    canvas = embedding.canvas
    device = canvas.cell_index.device
    centres, shares = [], []
    for side, extent in zip(canvas.size_hw, canvas.image_extent_hw, strict=True):
        start = torch.arange(side, device=device).clamp_max(extent)
        end = torch.arange(1, side + 1, device=device).clamp_max(extent)
        centres.append((start + end) / 2)
        # A mask that lies past the image altogether still has a centroid, at the edge.
        shares.append((end - start).clamp_min(1e-6))
    share = shares[0][:, None] * shares[1]
    moments = torch.stack([share * centres[1], share * centres[0][:, None], share])
    sums = masks.to(torch.float32) @ (canvas.from_pixels(moments) * canvas.cell_area).T
    return canvas.to_original(sums[:, :2] / sums[:, 2:])


def greedy_cover(entities: MaskSet, additional: MaskSet, cell_area: torch.Tensor, config: EntityConfig) -> MaskSet:
    """Eq. 10, with as few additional masks M_A as fill the gaps: the one that fills most is taken first.

    A mask whose IoU with an entity exceeds ρ joins the one it overlaps most, others become entities. Only what no
    entity covers is added, so entities stay disjoint.
    """
    least = config.min_gain * float(cell_area.sum())
    uncovered = ~entities.masks.any(dim=0)
    while len(additional):
        gains = mask_areas(additional.masks & uncovered, cell_area)
        taken = int(gains.argmax())
        if gains[taken] < max(least, 1):
            break
        mask = additional[taken : taken + 1]
        gain = mask.masks & uncovered
        iou = mask_iou(mask.masks, entities.masks, cell_area)[0]
        if len(entities) and iou.max() > config.union_thresh:
            joined = int(iou.argmax())
            masks, logits = entities.masks.clone(), entities.logits.clone()
            masks[joined] |= gain[0]
            logits[joined] = torch.maximum(logits[joined], mask.logits[0])
            entities = replace(entities, masks=masks, logits=logits)
        else:
            entities = MaskSet.concatenate([entities, replace(mask, masks=gain)])
        uncovered = uncovered & ~gain[0]
    return entities
