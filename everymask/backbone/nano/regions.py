"""Adaptive superpixels: a fine watershed merged down to a few hundred cells, flat areas first."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import watershed

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class RegionConfig:
    """How an image is cut into cells."""

    max_cells: int = 384
    """Most cells of an image; the watershed may find fewer."""
    smoothing_px: float = 0.8
    """Gaussian sigma on the relief before the watershed, in canvas pixels."""
    boundary_relief: float = 10.0
    """Height that a certain boundary adds to the colour gradient (Lab units a pixel)."""
    boundary_cost: float = 4000.0
    """Merge cost of a certain boundary, in squared Lab units."""
    gradient_cost: float = 0.5
    """Merge cost of a squared gradient along the common border."""


@dataclass(frozen=True)
class Adjacency:
    """Pairs of touching regions, a < b.

    Attributes:
        pairs: (E, 2) int64.
        length: (E,) float32 border length in pixel edges.
        values: (E, K) float32 quantities averaged along the border.
    """

    pairs: IntArray
    length: FloatArray
    values: FloatArray


def lab_image(image: NDArray[np.uint8]) -> FloatArray:
    return np.asarray(rgb2lab(image), dtype=np.float32)


def colour_gradient(lab: FloatArray) -> FloatArray:
    """(H, W, 3) Lab → (H, W) float32 gradient magnitude in Lab units a pixel."""
    smooth = ndimage.gaussian_filter(lab, (1, 1, 0))
    squared = sum(ndimage.sobel(smooth, axis)[...].__pow__(2).sum(axis=2) for axis in (0, 1))
    return np.asarray(np.sqrt(squared) / 8, dtype=np.float32)


def region_adjacency(labels: IntArray, planes: FloatArray) -> Adjacency:
    """Borders of a label map (H, W) in [0, P), with (H, W, K) `planes` averaged over both sides of each."""
    count = int(labels.max()) + 1
    keys, samples = [], []
    for first, second in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        a, b = labels[first], labels[second]
        border = a != b
        a, b = a[border], b[border]
        keys.append(np.minimum(a, b) * count + np.maximum(a, b))
        samples.append(np.maximum(planes[first][border], planes[second][border]))
    key, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    sample = np.concatenate(samples)
    length = np.bincount(inverse, minlength=len(key)).astype(np.float32)
    sums = [np.bincount(inverse, sample[:, k], minlength=len(key)) for k in range(planes.shape[2])]
    values = (np.stack(sums, axis=1) / length[:, None]).astype(np.float32)
    return Adjacency(np.stack([key // count, key % count], axis=1), length, values)


def region_means(labels: IntArray, planes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Areas (P,) in pixels and means (P, K) of (H, W, K) planes over the regions of a label map."""
    flat = labels.reshape(-1)
    area = np.bincount(flat).astype(np.float32)
    sums = [np.bincount(flat, planes[..., k].reshape(-1), minlength=len(area)) for k in range(planes.shape[2])]
    return area, (np.stack(sums, axis=1) / area[:, None]).astype(np.float32)


def find_cells(lab: FloatArray, gradient: FloatArray, boundary: FloatArray, config: RegionConfig) -> IntArray:
    """Cut an image into at most `max_cells` cells.

    Args:
        lab: (H, W, 3) CIE Lab.
        gradient: (H, W) from `colour_gradient`.
        boundary: (H, W) learned boundary probability in [0, 1].

    Returns:
        (H, W) int64 in [0, P), every cell connected.
    """
    relief = ndimage.gaussian_filter(gradient + config.boundary_relief * boundary, config.smoothing_px)
    markers: IntArray = watershed(relief).astype(np.int64)  # type: ignore[no-untyped-call]
    basins = np.maximum(markers - 1, 0)  # A flat relief has no basin: label 0 everywhere.
    if basins.max() < config.max_cells:
        return np.asarray(basins, dtype=np.int64)
    edges = region_adjacency(basins, np.stack([gradient**2, boundary], axis=2))
    area, colour = region_means(basins, lab)
    contrast = 1 + config.gradient_cost * edges.values[:, 0] + config.boundary_cost * edges.values[:, 1] ** 2
    return merge_regions(basins, area, colour, edges, contrast, config.max_cells)


def merge_regions(
    labels: IntArray, area: FloatArray, colour: FloatArray, edges: Adjacency, contrast: FloatArray, target: int
) -> IntArray:
    """Merge neighbours, cheapest first, down to `target` regions.

    The cost is Ward's: a b / (a + b) for areas a and b, times squared colour distance, plus border contrast. In each
    round, pairs that are each other's cheapest neighbour merge, the cheaper half of them at a time. With Ward's cost
    alone this nearly equals merging one by one, and arrays make it several times faster.
    """
    size, mean = area.astype(np.float64), colour.astype(np.float64)
    a, b = edges.pairs.T
    length = edges.length.astype(np.float64)
    strength = length * contrast
    root = np.arange(len(size))
    while len(size) > target and len(a):
        distance = ((mean[a] - mean[b]) ** 2).sum(axis=1) + strength / length
        cost = size[a] * size[b] / (size[a] + size[b]) * distance
        order = np.argsort(cost, kind="stable")
        cheapest = np.empty(len(size), dtype=np.int64)
        # Written from dear to cheap: the last word on a region is its cheapest edge.
        dear_first = order[::-1]
        cheapest[np.stack([a[dear_first], b[dear_first]], axis=1).reshape(-1)] = np.repeat(dear_first, 2)
        mutual = order[(cheapest[a[order]] == order) & (cheapest[b[order]] == order)]
        mutual = mutual[: min(len(size) - target, (len(mutual) + 1) // 2)]
        into = np.arange(len(size))
        into[b[mutual]] = a[mutual]
        _, compact = np.unique(into, return_inverse=True)
        root = compact[root]
        mean = np.stack([_sums(compact, size * mean[:, k]) for k in range(mean.shape[1])], axis=1)
        size = _sums(compact, size)
        mean /= size[:, None]
        a, b = compact[a], compact[b]
        key = np.minimum(a, b) * len(size) + np.maximum(a, b)
        key, inverse = np.unique(np.where(a == b, -1, key), return_inverse=True)
        length, strength = _sums(inverse, length), _sums(inverse, strength)
        if len(key) and key[0] < 0:
            key, length, strength = key[1:], length[1:], strength[1:]
        a, b = key // len(size), key % len(size)
    return np.asarray(root[labels], dtype=np.int64)


def _sums(index: IntArray, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.bincount(index, values), dtype=np.float64)


@dataclass(frozen=True)
class MergeTree:
    """When each two cells first share a region, while all cells are merged into one.

    Attributes:
        regions_left: (P, P) float32, number of regions after that merge; P on the diagonal.
        height: (P, P) float32, its cost, never decreasing between merges; 0 on the diagonal.
        area: (P, P) float32, pixels of the merged region; the cell's own area on the diagonal.
    """

    regions_left: FloatArray
    height: FloatArray
    area: FloatArray


def merge_tree(
    area: FloatArray, descriptors: FloatArray, edges: Adjacency, border_cost: FloatArray, area_power: float
) -> MergeTree:
    """Merge P cells into one, cheapest neighbours first.

    A pair costs (a b / (a + b))^area_power times squared descriptor distance, plus mean border cost.

    Args:
        area: (P,) pixels.
        descriptors: (P, K) means per cell.
        edges: borders of the cells.
        border_cost: (E,) cost of each border; joined borders are averaged by length.
    """
    count = len(area)
    mean = list(descriptors.astype(np.float64))
    size: list[float] = area.tolist()
    borders: list[dict[int, tuple[float, float]]] = [{} for _ in size]
    for (a, b), length, each in zip(edges.pairs.tolist(), edges.length.tolist(), border_cost.tolist(), strict=True):
        borders[a][b] = borders[b][a] = (length, length * each)
    version = [0] * count
    heap: list[tuple[float, int, int, int, int]] = []

    def push(a: int, near: list[int]) -> None:
        distance = ((np.stack([mean[b] for b in near]) - mean[a]) ** 2).sum(axis=1).tolist()
        for b, apart in zip(near, distance, strict=True):
            length, weight = borders[a][b]
            ward = size[a] * size[b] / (size[a] + size[b])
            heapq.heappush(heap, (ward**area_power * (apart + weight / length), a, b, version[a], version[b]))

    for a in range(count):
        if near := [b for b in borders[a] if b > a]:
            push(a, near)
    members = [[cell] for cell in range(count)]
    merges = []
    level = 0.0
    while heap:
        cost, a, b, version_a, version_b = heapq.heappop(heap)
        if version[a] != version_a or version[b] != version_b:
            continue
        level, total = max(level, cost), size[a] + size[b]
        mean[a] = (size[a] * mean[a] + size[b] * mean[b]) / total
        size[a] = total
        merges.append((members[a][0], len(members[a]), len(members[b]), level, total))
        members[a] += members[b]
        members[b] = []
        version[a] += 1
        version[b] = -1
        del borders[a][b], borders[b][a]
        for c, (length, weight) in borders[b].items():
            known = borders[a].get(c, (0.0, 0.0))
            del borders[c][b]
            borders[a][c] = borders[c][a] = (known[0] + length, known[1] + weight)
        borders[b] = {}
        if borders[a]:
            push(a, list(borders[a]))
    # Members were only ever appended, so in this order every region that there was is a run of cells.
    order = np.array([cell for cells in members for cell in cells], dtype=np.int64)
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count)
    found = np.zeros((3, count, count), dtype=np.float32)
    for done, (first, own, other, level, total) in enumerate(merges, start=1):
        start = place[first]
        middle = start + own
        found[:, start:middle, middle : middle + other] = np.array([count - done, level, total])[:, None, None]
    found += found.transpose(0, 2, 1)
    left, height, joint = found[:, place][:, :, place]
    np.fill_diagonal(left, count)
    np.fill_diagonal(joint, area)
    return MergeTree(left, height, joint)
