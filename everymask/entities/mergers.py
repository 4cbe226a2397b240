"""EMR's second half: masks of one entity are merged (E-SAM section 3.3, eq. 7 and 8)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.protocol import Canvas
from everymask.entities.config import EntityConfig
from everymask.entities.gallery import Gallery
from everymask.masks.mask_set import MaskSet
from everymask.masks.packed import PackedMasks

_LARGEST_ENCOMPASSING = 1.5
"""A gallery mask encompasses two masks only if it is at most this many times as large as both together; a mask of the
whole picture would hold any two (our choice)."""
_TOUCHING_PX = 3
"""Adjacent masks are at most this many canvas pixels apart, along a row or a column (our choice)."""


def neighbour_counts(
    features: torch.Tensor, owner: NDArray[np.int64], count: int, neighbours: int
) -> NDArray[np.int64]:
    """The sums of eq. 7: (M, M) how many of the superpixels most similar to those of mask i lie in mask j.

    A superpixel is not its own neighbour, and one whose centroid no mask holds still takes its place among the k (our
    choices).

    Args:
        features: (K, F) image features at the superpixels' centroids.
        owner: (K,) the mask that holds each centroid, -1 where none does.
        count: M.
        neighbours: k.
    """
    counts = np.zeros((count, count), dtype=np.int64)
    k = min(neighbours, len(owner) - 1)
    if k < 1:
        return counts
    unit = torch.nn.functional.normalize(features.to(torch.float32), dim=1)
    cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
    nearest = torch.sort(cosine, dim=1, descending=True, stable=True).indices[:, :k].cpu().numpy()
    first, second = np.repeat(owner, k), owner[nearest.ravel()]
    held = (first >= 0) & (second >= 0)
    np.add.at(counts, (first[held], second[held]), 1)
    return counts


def touching(owner: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """(M, M) bool: which masks come within `_TOUCHING_PX` of each other, from the (H', W') owner of each pixel."""
    found = np.zeros((count, count), dtype=np.bool_)
    for distance in range(1, _TOUCHING_PX + 1):
        for one, other in ((owner[distance:], owner[:-distance]), (owner[:, distance:], owner[:, :-distance])):
            meet = (one != other) & (one >= 0) & (other >= 0)
            found[one[meet], other[meet]] = True
    return found | found.T


def merge_similar(
    entities: MaskSet,
    gallery: Gallery,
    features: torch.Tensor,
    centroid_cells: torch.Tensor,
    canvas: Canvas,
    config: EntityConfig,
) -> MaskSet:
    """Eq. 7-8: merge two similar, adjacent masks when a gallery mask encompasses both; the most similar pair first.

    A pair's similarity is the larger of S_M(i, j) and S_M(j, i). Gallery masks are those of prompts inside the two
    masks: a mask that holds both without being asked from either says nothing about them (our choice). After a merger
    the similarities are those of the merged mask.
    """
    if len(entities) < 2:
        return entities
    merging = _Merging(entities, gallery, features, centroid_cells.cpu().numpy(), canvas, config)
    merging.run()
    return merging.result(entities)


class _Merging:
    """Disjoint masks that grow together.

    A merged mask takes the first one's place; the other's stays empty.
    """

    def __init__(
        self,
        entities: MaskSet,
        gallery: Gallery,
        features: torch.Tensor,
        centroid_cells: NDArray[np.int64],
        canvas: Canvas,
        config: EntityConfig,
    ) -> None:
        self._gallery = gallery
        self._config = config
        self._packed = PackedMasks.pack(entities.masks, canvas.on_host.cell_area)
        self._masks = self._packed.unpack()
        self._areas = self._packed.areas.copy()
        self._words = self._packed.words.copy()
        self._members = [[index] for index in range(len(entities))]
        self._prompted_by = list(range(len(entities)))
        owner = np.full(self._packed.num_cells, -1, dtype=np.int64)
        for index, mask in enumerate(self._masks):
            owner[mask] = index
        centroid_owner = owner[centroid_cells]
        self._counts = neighbour_counts(features, centroid_owner, len(entities), config.merge_neighbours)
        self._centroids = np.bincount(centroid_owner[centroid_owner >= 0], minlength=len(entities))
        self._adjacent = touching(owner[canvas.on_host.cell_index.numpy()], len(entities))
        self._refused = np.eye(len(entities), dtype=np.bool_)
        self._prepared = np.zeros(len(entities), dtype=np.bool_)

        self._similarity = np.full(self._counts.shape, -1.0)
        for index in range(len(entities)):
            self._update(index)

    def _update(self, index: int) -> None:
        """S_M of a mask's pairs i < j, the larger of both directions; -1 for pairs that are not open."""
        centroids = np.maximum(self._centroids, 1)
        similarity = np.maximum(self._counts[index] / centroids[index], self._counts[:, index] / centroids)
        similarity[self._refused[index] | ~self._adjacent[index]] = -1
        self._similarity[index, index + 1 :] = similarity[index + 1 :]
        self._similarity[:index, index] = similarity[:index]

    def run(self) -> None:
        least = self._config.merge_thresh
        highest = self._similarity.max(axis=1)
        while highest.max() >= least:
            i = int(highest.argmax())
            j = int(self._similarity[i].argmax())
            if not (self._prepared[i] and self._prepared[j]):
                waiting = np.unique(np.argwhere(self._similarity >= least))
                self._gallery.prepare(np.logical_or.reduce(self._masks[waiting]))
                self._prepared[waiting] = True
            if not self._is_encompassed(i, j):
                self._refused[i, j] = self._refused[j, i] = True
                self._similarity[i, j] = -1
                highest[i] = self._similarity[i].max()
            else:
                self._merge(i, j)
                highest = self._similarity.max(axis=1)

    def _is_encompassed(self, i: int, j: int) -> bool:
        """Whether a gallery mask, asked from within the pair, covers enough of both and is not much larger."""
        gallery = self._gallery
        rows = gallery.rows_in(self._masks[i] | self._masks[j])
        rows = rows[gallery.masks.areas[rows] <= _LARGEST_ENCOMPASSING * (self._areas[i] + self._areas[j])]
        covers = np.ones(len(rows), dtype=np.bool_)
        for mask in (i, j):
            shared = gallery.masks.shared_areas(self._words[mask], rows)
            covers &= shared / max(self._areas[mask], 1) >= self._config.merge_cover_thresh
        return bool(covers.any())

    def _merge(self, i: int, j: int) -> None:
        if self._areas[j] > self._areas[i]:
            self._prompted_by[i] = self._prompted_by[j]
        self._words[i] |= self._words[j]
        merged = self._packed.from_words(self._words[i : i + 1])
        self._masks[i], self._areas[i] = merged.unpack()[0], merged.areas[0]
        self._masks[j], self._words[j], self._areas[j] = False, 0, 0
        self._members[i] += self._members[j]
        self._members[j] = []
        self._counts[i] += self._counts[j]
        self._counts[:, i] += self._counts[:, j]
        self._centroids[i] += self._centroids[j]
        self._adjacent[i] |= self._adjacent[j]
        self._adjacent[:, i] |= self._adjacent[:, j]
        self._refused[i] = self._refused[:, i] = False
        self._refused[i, i] = True
        self._refused[j] = self._refused[:, j] = True
        self._update(j)
        self._update(i)

    def result(self, entities: MaskSet) -> MaskSet:
        """The merged set: estimates averaged by area, the prompt of the larger, logits the greatest of any member's."""
        device = entities.masks.device
        kept = [index for index, members in enumerate(self._members) if members]
        merged = entities[torch.tensor(kept, device=device)]
        weights = np.zeros((len(kept), len(entities)), dtype=np.float32)
        logits = merged.logits.clone()
        for row, index in enumerate(kept):
            members = self._members[index]
            weights[row, members] = self._packed.areas[members]
            if len(members) > 1:
                logits[row] = entities.logits[torch.tensor(members, device=device)].amax(dim=0)
        weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1)
        share = torch.from_numpy(weights).to(device)
        prompt = torch.tensor([self._prompted_by[index] for index in kept], device=device)
        return replace(
            merged,
            masks=torch.from_numpy(self._masks[kept]).to(device),
            logits=logits,
            predicted_iou=share @ entities.predicted_iou.to(torch.float32),
            stability_score=share @ entities.stability_score,
            point_coords=entities.point_coords[prompt],
            tokens=entities.tokens[prompt],
        )
