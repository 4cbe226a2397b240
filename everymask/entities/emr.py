"""Entity-level Mask Refinement: overlaps are settled, then masks of one entity are merged (E-SAM section 3.3)."""

from __future__ import annotations

from dataclasses import replace

import torch

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.gallery import Gallery, Guidance
from everymask.entities.superpixels import Superpixels
from everymask.masks.mask_set import MaskSet
from everymask.masks.nms import cell_mask_nms, descending_order
from everymask.masks.overlap import intersection_areas, mask_areas, mask_containment, mask_iou


def refine_entities(
    backbone: PromptableBackbone,
    embedding: ImageEmbedding,
    candidates: MaskSet,
    superpixels: Superpixels,
    config: EntityConfig,
) -> MaskSet:
    """Candidates, which may overlap, → the disjoint entity map M_E.

    The `masks` of the result are what became of the candidates; `logits` stay the model's own claim.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    gallery = Gallery(backbone, embedding, config)
    split = split_overlaps(candidates, gallery, embedding.canvas.cell_area, config)
    features = backbone.sample_features(embedding, superpixels.centroids)
    centroid_cells = embedding.canvas.cells_at(superpixels.centroids)
    return merge_similar(split, gallery, features, centroid_cells, embedding.canvas.cell_area, config)


def split_overlaps(candidates: MaskSet, gallery: Gallery, cell_area: torch.Tensor, config: EntityConfig) -> MaskSet:
    """Eq. 5-6: settle every overlap, in descending predicted IoU.

    A mask of which too little is left is dropped at once, so that it takes nothing from the masks after it.
    """
    candidates = candidates[descending_order(candidates.predicted_iou)]
    masks = candidates.masks.clone()
    least = config.remnant_thresh * mask_areas(masks, cell_area)
    gallery.prepare(_contested_region(masks, cell_area, config.overlap_thresh))
    for p in range(len(candidates)):
        for q in (torch.nonzero((masks[p] & masks[p + 1 :]).any(dim=1)).flatten() + p + 1).tolist():
            overlap = masks[p] & masks[q]
            areas = mask_areas(torch.stack([overlap, masks[p], masks[q]]), cell_area)
            if not areas[0]:
                continue
            if areas[0] / areas[1:].max() < config.overlap_thresh:
                larger = p if areas[1] >= areas[2] else q
                masks[larger] &= ~overlap
                continue
            for_p = _settle(overlap, masks[p], masks[q], gallery.consult(overlap), cell_area, config)
            masks[p] &= ~overlap | for_p
            masks[q] &= ~overlap | ~for_p
            pair = torch.tensor([p, q], device=masks.device)
            masks[pair] &= (mask_areas(masks[pair], cell_area) >= least[pair])[:, None]
    survivors = masks.any(dim=1) & (mask_areas(masks, cell_area) >= least)
    return replace(candidates, masks=masks)[survivors]


def _contested_region(masks: torch.Tensor, cell_area: torch.Tensor, overlap_thresh: float) -> torch.Tensor:
    """(P,) bool: all overlaps that are large now. Settlement only shrinks masks, so it asks for hardly any more."""
    areas = mask_areas(masks, cell_area)
    inter = intersection_areas(masks, masks, cell_area)
    contested = inter >= overlap_thresh * torch.maximum(areas[:, None], areas[None, :])
    pairs = torch.nonzero((contested & (inter > 0)).triu(diagonal=1))
    region = torch.zeros_like(masks[0]) if len(masks) else masks.new_zeros(masks.shape[1])
    for p, q in pairs.tolist():
        region |= masks[p] & masks[q]
    return region


def _settle(
    overlap: torch.Tensor,
    p: torch.Tensor,
    q: torch.Tensor,
    guidance: Guidance,
    cell_area: torch.Tensor,
    config: EntityConfig,
) -> torch.Tensor:
    """The (P,) bool part of the overlap that mask p keeps; q gets the rest. Without a vote p, the more confident, wins.

    The guidance mask G_p decides by its shape (our choice, the paper only says that it updates both): what it covers of
    the overlap goes to the mask that it resembles more, the rest to the other.
    """
    if not guidance.votes.numel():
        return overlap
    chosen = guidance.masks[_most_voted(guidance, cell_area, config.vote_iou_thresh)]
    resemblance = mask_iou(chosen[None], torch.stack([p, q]), cell_area)[0]
    return overlap & chosen if resemblance[0] >= resemblance[1] else overlap & ~chosen


def _most_voted(guidance: Guidance, cell_area: torch.Tensor, same_thresh: float) -> int:
    """The position of the guidance mask that appears most often, counting nearly equal masks as one.

    Of nearly equal masks the one with the highest predicted IoU stands for all, and ties between groups go to the
    higher predicted IoU, then to the earlier prompt.
    """
    leaders = cell_mask_nms(guidance.masks, guidance.predicted_iou, same_thresh, cell_area)
    same = mask_iou(guidance.masks[leaders], guidance.masks, cell_area) >= same_thresh
    support = same.to(torch.float32) @ guidance.votes.to(torch.float32)
    return int(leaders[support.argmax()])


def mask_similarity(
    masks: torch.Tensor, features: torch.Tensor, centroid_cells: torch.Tensor, neighbours: int
) -> torch.Tensor:
    """S_M (eq. 7): how often the superpixels most similar to those of mask i lie in mask j.

    A superpixel is not its own neighbour, and one whose centroid no mask holds still takes its place among the k (our
    choices).

    Args:
        masks: (M, P) bool.
        features: (K, F) image features at the superpixels' centroids.
        centroid_cells: (K,) int64 cell under each centroid.
        neighbours: k.

    Returns:
        (M, M) float32 in [0, k]; row i is 0 for a mask that holds no centroid.
    """
    count = features.shape[0]
    held = masks[:, centroid_cells].to(torch.float32)
    k = min(neighbours, count - 1)
    if k < 1:
        return held.new_zeros(len(masks), len(masks))
    unit = torch.nn.functional.normalize(features.to(torch.float32), dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
    nearest = torch.sort(cosine, dim=1, descending=True, stable=True).indices[:, :k]
    neighbour = torch.zeros_like(cosine).scatter_(1, nearest, 1.0)
    return held @ neighbour @ held.T / held.sum(dim=1, keepdim=True).clamp_min(1)


def merge_similar(
    entities: MaskSet,
    gallery: Gallery,
    features: torch.Tensor,
    centroid_cells: torch.Tensor,
    cell_area: torch.Tensor,
    config: EntityConfig,
) -> MaskSet:
    """Eq. 7-8: merge two similar masks when a gallery mask encompasses both; the most similar pair first.

    A pair's similarity is the larger of S_M(i, j) and S_M(j, i). Gallery masks are those of prompts inside the two
    masks: a mask that holds both without being asked from either says nothing about them (our choice). After a merger
    the similarities are computed anew.
    """
    refused: set[tuple[int, int]] = set()
    identity = list(range(len(entities)))
    next_identity = len(entities)
    while True:
        similarity = mask_similarity(entities.masks, features, centroid_cells, config.merge_neighbours)
        similarity = torch.maximum(similarity, similarity.T).triu(diagonal=1)
        pairs = torch.nonzero(similarity >= config.merge_thresh)
        pairs = pairs[descending_order(similarity[pairs[:, 0], pairs[:, 1]])]
        open_pairs = [(i, j) for i, j in pairs.tolist() if (identity[i], identity[j]) not in refused]
        if not open_pairs:
            return entities
        gallery.prepare(entities.masks[sorted({index for pair in open_pairs for index in pair})].any(dim=0))
        for i, j in open_pairs:
            encompassing = _encompassing(entities.masks[[i, j]], gallery, cell_area, config)
            if encompassing is not None:
                entities = _merge(entities, i, j, cell_area)
                identity[i] = next_identity
                next_identity += 1
                del identity[j]
                break
            refused.add((identity[i], identity[j]))
        else:
            return entities


def _encompassing(
    pair: torch.Tensor, gallery: Gallery, cell_area: torch.Tensor, config: EntityConfig
) -> torch.Tensor | None:
    """A (P,) bool gallery mask, asked from within a (2, P) pair of masks, that covers both; None when there is none."""
    guidance = gallery.consult(pair.any(dim=0))
    covers = (mask_containment(pair, guidance.masks, cell_area) >= config.merge_cover_thresh).all(dim=0)
    found = torch.nonzero(covers).flatten()
    return guidance.masks[found[0]] if found.numel() else None


def _merge(entities: MaskSet, i: int, j: int, cell_area: torch.Tensor) -> MaskSet:
    """Entity j joined to entity i < j; estimates are averaged by area, the prompt is that of the larger."""
    weight = mask_areas(entities.masks[[i, j]], cell_area)
    share = weight / weight.sum()
    larger = i if weight[0] >= weight[1] else j

    def joined(values: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        values = values.clone()
        values[i] = value
        return torch.cat([values[:j], values[j + 1 :]])

    return MaskSet(
        masks=joined(entities.masks, entities.masks[i] | entities.masks[j]),
        logits=joined(entities.logits, torch.maximum(entities.logits[i], entities.logits[j])),
        predicted_iou=joined(entities.predicted_iou, (entities.predicted_iou[[i, j]] * share).sum()),
        stability_score=joined(entities.stability_score, (entities.stability_score[[i, j]] * share).sum()),
        point_coords=joined(entities.point_coords, entities.point_coords[larger]),
        level=joined(entities.level, entities.level[i]),
        tokens=joined(entities.tokens, entities.tokens[larger]),
    )
