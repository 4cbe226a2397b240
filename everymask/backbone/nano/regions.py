"""Adaptive superpixels: a fine watershed merged until a few hundred cells are left, flat areas first."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]
from skimage.color import rgb2lab
from skimage.segmentation import watershed

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class RegionConfig:
    """How an image is cut into cells."""

    max_cells: int = 384
    """Cells an image has at most; fewer where the watershed finds fewer basins."""
    smoothing_px: float = 0.8
    """Gaussian sigma on the relief before the watershed, in canvas pixels."""
    boundary_relief: float = 10.0
    """Height that a certain learned boundary adds to the colour gradient (Lab units a pixel)."""
    boundary_cost: float = 4000.0
    """Merge cost of a certain learned boundary, in squared Lab units."""
    gradient_cost: float = 0.5
    """Merge cost of a squared gradient along the common border."""


@dataclass(frozen=True)
class Adjacency:
    """Pairs of touching regions, a < b.

    Attributes:
        pairs: (E, 2) int64.
        length: (E,) float32, border length in pixel edges.
        values: (E, K) float32, per-pixel quantities averaged along the border.
    """

    pairs: IntArray
    length: FloatArray
    values: FloatArray


def lab_image(image: NDArray[np.uint8]) -> FloatArray:
    """(H, W, 3) uint8 RGB → (H, W, 3) float32 CIE Lab."""
    return np.asarray(rgb2lab(image), dtype=np.float32)


def colour_gradient(lab: FloatArray) -> FloatArray:
    """(H, W, 3) Lab → (H, W) float32 gradient magnitude in Lab units a pixel."""
    smooth = ndimage.gaussian_filter(lab, (1, 1, 0))
    squared = sum(ndimage.sobel(smooth, axis)[...].__pow__(2).sum(axis=2) for axis in (0, 1))
    return np.asarray(np.sqrt(squared) / 8, dtype=np.float32)


def region_adjacency(labels: IntArray, planes: FloatArray) -> Adjacency:
    """Borders of a label map (H, W) in [0, P), with the (H, W, K) `planes` averaged over both sides of each."""
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
    return _merge_to(basins, area, colour, edges, contrast, config.max_cells)


def _merge_to(
    labels: IntArray, area: FloatArray, colour: FloatArray, edges: Adjacency, contrast: FloatArray, target: int
) -> IntArray:
    """Greedily merge the cheapest pair of neighbours until `target` regions are left.

    The cost is Ward's: a b / (a + b) for areas a and b, times squared colour distance plus border contrast. Plain
    Python numbers: with a handful of neighbours a region they are several times faster than arrays.
    """
    sizes: list[float] = area.tolist()
    means: list[list[float]] = colour.tolist()
    neighbours: list[dict[int, tuple[float, float]]] = [{} for _ in sizes]
    for (a, b), length, strength in zip(edges.pairs.tolist(), edges.length.tolist(), contrast.tolist(), strict=True):
        neighbours[a][b] = neighbours[b][a] = (length, length * strength)

    def cost(a: int, b: int, border: tuple[float, float]) -> float:
        (l0, a0, b0), (l1, a1, b1) = means[a], means[b]
        distance = (l0 - l1) ** 2 + (a0 - a1) ** 2 + (b0 - b1) ** 2
        return sizes[a] * sizes[b] / (sizes[a] + sizes[b]) * (distance + border[1] / border[0])

    version = [0] * len(sizes)
    parent = list(range(len(sizes)))
    heap = [
        (cost(a, b, border), a, b, 0, 0) for a, near in enumerate(neighbours) for b, border in near.items() if a < b
    ]
    heapq.heapify(heap)
    left = len(sizes)
    while left > target and heap:
        _, a, b, version_a, version_b = heapq.heappop(heap)
        if version[a] != version_a or version[b] != version_b:
            continue
        total = sizes[a] + sizes[b]
        means[a] = [(sizes[a] * x + sizes[b] * y) / total for x, y in zip(means[a], means[b], strict=True)]
        sizes[a] = total
        parent[b] = a
        version[a] += 1
        version[b] = -1
        left -= 1
        near = neighbours[a]
        del near[b]
        for c, (length, strength) in neighbours[b].items():
            if c == a:
                continue
            del neighbours[c][b]
            known = near.get(c, (0.0, 0.0))
            near[c] = neighbours[c][a] = (known[0] + length, known[1] + strength)
        for c, border in near.items():
            heapq.heappush(heap, (cost(a, c, border), a, c, version[a], version[c]))
    root = np.arange(len(parent))
    for region in range(len(parent)):
        top = region
        while parent[top] != top:
            top = parent[top]
        root[region] = top
    _, compact = np.unique(root, return_inverse=True)
    return np.asarray(compact[labels], dtype=np.int64)


@dataclass(frozen=True)
class MergeTree:
    """When every two cells first belong to one region, while the cells are merged down to one.

    Attributes:
        regions_left: (P, P) float32, regions that are left after that merge; P on the diagonal.
        height: (P, P) float32, its cost, never decreasing from merge to merge; 0 on the diagonal.
        area: (P, P) float32, pixels of the region made by it; the cell's own area on the diagonal.
    """

    regions_left: FloatArray
    height: FloatArray
    area: FloatArray


def merge_tree(
    area: FloatArray, descriptors: FloatArray, edges: Adjacency, border_cost: FloatArray, area_power: float
) -> MergeTree:
    """Merge P cells to one, cheapest neighbours first.

    The cost of a pair is (a b / (a + b))^area_power times squared descriptor distance plus mean border cost.

    Args:
        area: (P,) pixels.
        descriptors: (P, K) means per cell.
        edges: borders of the cells.
        border_cost: (E,) cost of each border; borders that join are averaged by length.
    """
    count = len(area)
    left = np.eye(count, dtype=np.float32) * count
    height = np.zeros((count, count), dtype=np.float32)
    joint = np.diag(area).astype(np.float32)
    size, mean = area.astype(np.float64), descriptors.astype(np.float64)
    length, weight = np.zeros((count, count)), np.zeros((count, count))
    a, b = edges.pairs.T
    length[a, b] = length[b, a] = edges.length
    weight[a, b] = weight[b, a] = edges.length * border_cost
    cost = np.full((count, count), np.inf)

    def row(i: int, near: IntArray) -> NDArray[np.float64]:
        distance = ((mean[near] - mean[i]) ** 2).sum(axis=1) + weight[i, near] / length[i, near]
        ward = size[i] * size[near] / (size[i] + size[near])
        return np.asarray(ward**area_power * distance)

    for i in range(count):
        near = np.flatnonzero(length[i])
        cost[i, near] = row(i, near)
    best = cost.min(axis=1)
    members = [np.array([i]) for i in range(count)]
    level = 0.0
    for regions in range(count - 1, 0, -1):
        i = int(best.argmin())
        if not np.isfinite(best[i]):
            break
        j = int(cost[i].argmin())
        level = max(level, float(best[i]))
        total = size[i] + size[j]
        for matrix, value in ((left, regions), (height, level), (joint, total)):
            block = np.ix_(members[i], members[j])
            matrix[block] = value
            matrix[block[1].T, block[0].T] = value
        mean[i] = (size[i] * mean[i] + size[j] * mean[j]) / total
        size[i] = total
        members[i] = np.concatenate([members[i], members[j]])
        for border in (length, weight):
            border[i] += border[j]
            border[:, i] = border[i]
            border[j] = border[:, j] = 0
            border[i, i] = 0
        cost[j] = cost[:, j] = np.inf
        near = np.flatnonzero(length[i])
        cost[i] = np.inf
        cost[i, near] = cost[near, i] = row(i, near)
        best[i], best[j] = cost[i].min(), np.inf
        best[near] = cost[near].min(axis=1)
    return MergeTree(left, height, joint)
