"""Under-Segmentation Refinement: prompt the model again where no entity is (E-SAM section 3.4)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.protocol import Canvas, ImageEmbedding, PromptableBackbone
from everymask.entities.config import EntityConfig
from everymask.entities.consensus import LEAST_CONSENSUS, GridAnswers
from everymask.entities.prompting import decode_batches
from everymask.entities.superpixels import Superpixels
from everymask.masks.mask_set import MaskSet
from everymask.masks.packed import PackedMasks, intersections

_UNCOVERED_SHARE = 0.5
"""A superpixel is uncovered when less than this share of it is in some entity (our choice)."""

_CONTAINED_SHARE = 0.9
"""A superpixel is inside a part mask that covers at least this share of it (our choice)."""


def fill_uncovered(
    backbone: PromptableBackbone,
    embedding: ImageEmbedding,
    entities: MaskSet,
    parts: PackedMasks,
    superpixels: Superpixels,
    grid: GridAnswers,
    config: EntityConfig,
) -> MaskSet:
    """Prompt and fill the gaps of an entity map.

    Eq. 6 chooses among a prompt's three masks. The chosen one is used if enough of the grid's clicks inside it give it,
    too, however confident it is (our choice; the paper asks for high confidence): a mask of the whole picture, of which
    the model is sure, would fill every gap.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    cell_area = embedding.canvas.on_host.cell_area
    points = additional_prompts(embedding, entities, parts, superpixels, config)
    points = points[backbone.distinct_points(embedding, points)[0]]
    batches, consensus = [], []
    for answers in decode_batches(backbone, embedding, points, config):
        rows = answers.guidance(config)
        shares = grid.consensus(answers.packed[rows])
        agreed = (answers.packed.areas[rows] > 0) & (shares >= LEAST_CONSENSUS)
        batches.append(answers.take(rows[agreed]))
        consensus.append(shares[agreed])
    return greedy_cover(entities, MaskSet.concatenate(batches), np.concatenate(consensus), cell_area, config)


def additional_prompts(
    embedding: ImageEmbedding, entities: MaskSet, parts: PackedMasks, superpixels: Superpixels, config: EntityConfig
) -> torch.Tensor:
    """P_A (eq. 9): (N, 2) points (x, y) in original pixels, one for each uncovered superpixel.

    A superpixel inside a part or subpart mask is prompted at the centroid of the most confident such mask, any other at
    its own.

    Args:
        parts: in descending predicted IoU.
    """
    canvas = embedding.canvas
    regions = PackedMasks.pack(superpixels.masks, canvas.on_host.cell_area)
    covered = PackedMasks.pack(entities.masks, canvas.on_host.cell_area).union()
    remaining = np.flatnonzero(regions.shared_areas(covered) < _UNCOVERED_SHARE * regions.areas)
    points = superpixels.centroids[torch.from_numpy(remaining).to(superpixels.centroids.device)]
    if not len(remaining) or not len(parts):
        return points
    left = regions[remaining]
    inside = intersections(left, parts) >= _CONTAINED_SHARE * left.areas[:, None]
    masks = torch.from_numpy(parts[inside.argmax(axis=1)].unpack()).to(points.device)
    of_parts = mask_centroids(canvas, masks)
    is_inside = torch.from_numpy(inside.any(axis=1)).to(points.device)
    return torch.where(is_inside[:, None], of_parts.to(points.device), points)


def _centre_moments(canvas: Canvas) -> torch.Tensor:
    """(3, P) sums over each cell of x, y and 1, in canvas pixels, counting only what is under the image."""
    device = canvas.cell_index.device
    centres, shares = [], []
    for side, extent in zip(canvas.size_hw, canvas.image_extent_hw, strict=True):
        start = torch.arange(side, device=device).clamp_max(extent)
        end = torch.arange(1, side + 1, device=device).clamp_max(extent)
        centres.append((start + end) / 2)
        # A mask that lies past the image altogether still has a centroid, at the edge.
        shares.append((end - start).clamp_min(1e-6))
    share = shares[0][:, None] * shares[1]
    return canvas.from_pixels(torch.stack([share * centres[1], share * centres[0][:, None], share])) * canvas.cell_area


def mask_centroids(canvas: Canvas, masks: torch.Tensor) -> torch.Tensor:
    """(M, P) bool masks, none empty → (M, 2) float32 centroids (x, y) in original pixels."""
    sums = masks.to(torch.float32) @ _centre_moments(canvas).T
    return canvas.to_original(sums[:, :2] / sums[:, 2:])


def greedy_cover(
    entities: MaskSet,
    additional: MaskSet,
    consensus: NDArray[np.float64],
    cell_area: torch.Tensor,
    config: EntityConfig,
) -> MaskSet:
    """Eq. 10: fill the gaps with few additional masks M_A. First comes what fills most times its consensus; the paper
    only counts what it fills.

    A mask whose IoU with an entity exceeds ρ joins the one it overlaps most, others become entities. Only uncovered
    cells are added, so entities stay disjoint.

    Args:
        consensus: (M,) of each additional mask.
    """
    both = PackedMasks.pack(torch.cat([entities.masks, additional.masks]), cell_area)
    old, offered = both[: len(entities)], both[len(entities) :]
    least = max(config.min_gain * float(old.cell_areas().sum()), 1)
    # Rows for every mask there may be; `count` are in use.
    words = np.concatenate([old.words, np.zeros_like(offered.words)])
    areas = np.concatenate([old.areas, np.zeros_like(offered.areas)])
    count = len(old)
    created, joins = [], []
    uncovered = ~old.union()
    while len(offered):
        gains = offered.shared_areas(uncovered)
        enough = gains >= least
        if not enough.any():
            break
        best = int((gains * consensus * enough).argmax())
        gain = offered.words[best] & uncovered
        found = replace(old, words=words[:count], areas=areas[:count])
        row = _overlapped_most(offered, best, found, config.union_thresh)
        if row is None:
            row = count
            count += 1
            created.append(best)
        else:
            joins.append((row, best))
        words[row] |= gain
        areas[row] += gains[best]
        uncovered = uncovered & ~gain
    device = entities.masks.device
    result = MaskSet.concatenate([entities, additional[torch.tensor(created, dtype=torch.int64, device=device)]])
    for row, index in joins:
        torch.maximum(result.logits[row], additional.logits[index], out=result.logits[row])
    found = replace(old, words=words[:count], areas=areas[:count])
    return replace(result, masks=torch.from_numpy(found.unpack()).to(device))


def _overlapped_most(offered: PackedMasks, index: int, found: PackedMasks, union_thresh: float) -> int | None:
    """The entity with the greatest IoU with an additional mask, if it exceeds ρ."""
    if not len(found):
        return None
    inter = found.shared_areas(offered.words[index])
    iou: NDArray[np.float64] = inter / np.maximum(found.areas + offered.areas[index] - inter, 1)
    row = int(iou.argmax())
    return row if iou[row] > union_thresh else None
