"""The prompt decoder's inputs: a descriptor of each cell, and affinities between pairs of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch.nn import functional

from everymask.backbone.nano.encoder import STRIDES, NanoEncoder
from everymask.backbone.nano.regions import (
    FloatArray,
    IntArray,
    MergeTree,
    RegionConfig,
    colour_gradient,
    find_cells,
    lab_image,
    merge_tree,
    region_adjacency,
    region_means,
)
from everymask.errors import ModelOutputError

_SHAPE_COLUMNS = {
    "colour": 3,  # mean Lab / 50
    "centre": 2,  # centroid x and y, [-1, 1] on the longer side
    "box": 2,  # width and height
    "log_share": 1,  # of the canvas
    "root_share": 1,
    "spread": 3,  # deviation of Lab / 10
    "inside": 2,  # mean gradient / 10 and boundary
    "border": 3,  # the same on the border, and the log of its length
    "touches": 4,  # left, top, right, bottom
    "canvas": 2,  # width and height
}
"""A cell's hand-made descriptor: columns in order with their widths. Lengths are shares of the longer side."""
SHAPE_NUMBERS = sum(_SHAPE_COLUMNS.values())


def _columns(name: str) -> slice:
    names = list(_SHAPE_COLUMNS)
    first = sum(_SHAPE_COLUMNS[before] for before in names[: names.index(name)])
    return slice(first, first + _SHAPE_COLUMNS[name])


COLOUR, CENTRE, BOX, CANVAS_SIDES = (_columns(name) for name in ("colour", "centre", "box", "canvas"))
LOG_SHARE, ROOT_SHARE = (_columns(name).start for name in ("log_share", "root_share"))
TOUCHES_LEFT, TOUCHES_RIGHT = _columns("touches").start, _columns("touches").start + 2
"""Columns that other modules read."""
TREE_PLANES = 12
"""Pairwise matrices made from the image: nine from three merge trees, two along straight lines, one of adjacency."""
LINE_SAMPLES = 12
"""Samples of the boundary map on the straight line between two cells."""


class CellTokens(NamedTuple):
    """The decoder's view of an image.

    Attributes:
        features: (P, F) float32 means over each cell: the trunk's features at strides 4 to 32, then groups.
        shape: (P, SHAPE_NUMBERS) float32, see `_SHAPE_COLUMNS`.
        planes: (TREE_PLANES, P, P) uint8, each 0..255.
    """

    features: torch.Tensor
    shape: torch.Tensor
    planes: torch.Tensor


@dataclass(frozen=True)
class CellImage:
    """An image's cells, their tokens, and the boundary map behind them."""

    cell_index: IntArray
    tokens: CellTokens
    boundary: FloatArray


@torch.inference_mode()
def describe_image(image: NDArray[np.uint8], encoder: NanoEncoder, config: RegionConfig) -> CellImage:
    """Cut a canvas image (H, W, 3) uint8 into cells and describe them; convolutions run on the encoder's device.

    Raises:
        ModelOutputError: the encoder produced NaN or infinity.
    """
    device = next(encoder.parameters()).device
    height, width = image.shape[:2]
    pixels = torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float()
    padded = functional.pad(pixels, (0, -width % 32, 0, -height % 32), mode="replicate")
    with encoder.precision(device):
        output = encoder(padded)
    if not all(bool(maps.isfinite().all()) for maps in (*output.features, output.groups, output.boundary)):
        raise ModelOutputError("nano's encoder produced NaN or infinity for the image; check the checkpoint's weights")
    upsampled = functional.interpolate(output.boundary.float(), scale_factor=2, mode="bilinear", align_corners=False)
    boundary = upsampled[0, 0, :height, :width].sigmoid().float().cpu().numpy()

    lab = lab_image(image)
    gradient = colour_gradient(lab)
    cells = find_cells(lab, gradient, boundary, config)
    features = _pool_features([*output.features, output.groups], cells)
    groups = features[:, -output.groups.shape[1] :].cpu().numpy()
    shape = _describe_shapes(lab, gradient, boundary, cells)
    planes = _pair_planes(lab, gradient, boundary, cells, groups)
    tokens = CellTokens(features, torch.from_numpy(shape).to(device), torch.from_numpy(planes).to(device))
    return CellImage(cells, tokens, boundary)


def _pool_features(maps: list[torch.Tensor], cells: IntArray) -> torch.Tensor:
    """(P, F) means over each cell of maps with several strides; coarse maps are read bilinearly at stride 8."""
    fine, *coarse = (features.float() for features in maps)
    middle = coarse[0].shape[-2:]
    coarse = [functional.interpolate(f, size=middle, mode="bilinear", align_corners=False) for f in coarse]
    pooled = []
    for stride, level in ((STRIDES[0], [fine]), (STRIDES[1], coarse)):
        grid = torch.cat(level, dim=1)[0]
        pooled.append(_cell_means(cells, stride, grid))
    return torch.cat(pooled, dim=1)


def _cell_means(cells: IntArray, stride: int, grid: torch.Tensor) -> torch.Tensor:
    """(P, C) means of a (C, h, w) map over each cell of (H, W); each pixel reads the square it lies in."""
    height, width = grid.shape[1:]
    rows, columns = (np.arange(side) // stride for side in cells.shape)
    count = int(cells.max()) + 1
    key, pixels = np.unique(cells * (height * width) + rows[:, None] * width + columns, return_counts=True)
    cell, square = np.divmod(key, height * width)
    share = (pixels / np.bincount(cell, pixels, minlength=count)[cell]).astype(np.float32)
    weights = sparse.csr_matrix((share, (cell, square)), shape=(count, height * width))
    return torch.from_numpy(weights @ grid.flatten(1).T.cpu().numpy()).to(grid.device)


def _describe_shapes(lab: FloatArray, gradient: FloatArray, boundary: FloatArray, cells: IntArray) -> FloatArray:
    height, width = cells.shape
    longest = max(height, width)
    rows, columns = (np.asarray(axis) for axis in np.indices(cells.shape, dtype=np.float32))
    planes = np.concatenate([lab, lab**2, np.stack([columns, rows, gradient, boundary], axis=2)], axis=2)
    area, mean = region_means(cells, planes)
    colour, square, x, y = mean[:, :3], mean[:, 3:6], mean[:, 6], mean[:, 7]
    spread = np.sqrt(np.maximum(square - colour**2, 0))
    low, high = _extents(columns, rows, cells)
    share = area / (height * width)
    x, y = (x - (width - 1) / 2) * 2 / longest, (y - (height - 1) / 2) * 2 / longest
    size = (high - low + 1) / longest
    touches = np.stack([low[:, 0] == 0, low[:, 1] == 0, high[:, 0] == width - 1, high[:, 1] == height - 1], axis=1)
    edges = region_adjacency(cells, np.stack([gradient, boundary], axis=2))
    border = _border_means(edges.pairs, edges.length, edges.values, len(area))
    described = {
        "colour": colour / 50,
        "centre": np.stack([x, y], axis=1),
        "box": size,
        "log_share": np.log(share)[:, None],
        "root_share": np.sqrt(share)[:, None],
        "spread": spread / 10,
        "inside": mean[:, 8:] / (10, 1),
        "border": border / (10, 1, 1),
        "touches": touches,
        "canvas": np.broadcast_to(np.array([width, height]) / longest, (len(area), 2)),
    }
    return np.concatenate([described[name] for name in _SHAPE_COLUMNS], axis=1).astype(np.float32)


def _extents(columns: FloatArray, rows: FloatArray, cells: IntArray) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest (x, y) of every cell, (P, 2) each."""
    count = int(cells.max()) + 1
    flat = cells.reshape(-1)
    low, high = np.full((count, 2), np.inf, dtype=np.float32), np.full((count, 2), -np.inf, dtype=np.float32)
    for axis, values in enumerate((columns.reshape(-1), rows.reshape(-1))):
        np.minimum.at(low[:, axis], flat, values)
        np.maximum.at(high[:, axis], flat, values)
    return low, high


def _border_means(pairs: IntArray, length: FloatArray, values: FloatArray, count: int) -> FloatArray:
    """(P, K + 1): border quantities averaged around each cell, and the log of its border length; zeros without
    neighbours."""
    ends = np.concatenate([pairs[:, 0], pairs[:, 1]])
    twice = np.concatenate([length, length])
    total = np.bincount(ends, twice, minlength=count)
    sums = [np.bincount(ends, twice * np.concatenate([v, v]), minlength=count) / np.maximum(total, 1) for v in values.T]
    return np.stack([*sums, np.log1p(total) / 5], axis=1).astype(np.float32)


def _pair_planes(
    lab: FloatArray, gradient: FloatArray, boundary: FloatArray, cells: IntArray, groups: FloatArray
) -> NDArray[np.uint8]:
    area, colour = region_means(cells, lab)
    edges = region_adjacency(cells, np.stack([gradient, boundary], axis=2))
    contrast, learned = edges.values[:, 0], edges.values[:, 1]
    trees = (
        # Learned borders alone; a trace of contrast settles ties. The best single tree by far.
        merge_tree(area, np.zeros_like(colour), edges, learned + 0.001 * contrast, area_power=0.2),
        # Colour, as in Ward's method: what the encoder has never seen still has one.
        merge_tree(area, colour, edges, contrast**2, area_power=1.0),
        # Learned groups, so that parts of one thing meet early.
        merge_tree(area, groups * 10, edges, 40 * learned, area_power=0.5),
    )
    planes = [plane for tree in trees for plane in _tree_planes(tree, cells.size)]
    planes += _line_planes(boundary, cells)
    adjacent = np.zeros((len(area), len(area)), dtype=np.float32)
    adjacent[edges.pairs[:, 0], edges.pairs[:, 1]] = adjacent[edges.pairs[:, 1], edges.pairs[:, 0]] = 1 - learned / 2
    planes.append(adjacent)
    return (np.stack(planes).clip(0, 1) * 255).round().astype(np.uint8)


def _tree_planes(tree: MergeTree, pixels: int) -> list[FloatArray]:
    """A merge tree as three matrices in [0, 1]: 0 for the same cell, 1 for the last merge."""
    count = len(tree.height)
    left = 1 - np.log(np.maximum(tree.regions_left, 1)) / max(np.log(count), 1)
    top = np.log1p(tree.height / np.median(tree.height).clip(1e-6)) / 3
    area = 1 + np.log(tree.area / pixels) / 10
    return [left.astype(np.float32), top.astype(np.float32), area.astype(np.float32)]


def _line_planes(boundary: FloatArray, cells: IntArray) -> list[FloatArray]:
    """The maximum and the mean boundary on the straight line between two centroids (intervening contour)."""
    rows, columns = np.indices(cells.shape, dtype=np.float32)
    _, centre = region_means(cells, np.stack([columns, rows], axis=2))
    x, y = torch.from_numpy(centre[:, 0].copy()), torch.from_numpy(centre[:, 1].copy())
    quarter = functional.max_pool2d(torch.from_numpy(boundary)[None, None], 3, stride=2, padding=1)[0, 0]
    largest = torch.zeros(len(x), len(x))
    mean = torch.zeros(len(x), len(x))
    for step in (np.arange(LINE_SAMPLES) + 0.5) / LINE_SAMPLES:
        column = torch.lerp(x[:, None], x[None], float(step)).div_(2).long().clamp_(0, quarter.shape[1] - 1)
        row = torch.lerp(y[:, None], y[None], float(step)).div_(2).long().clamp_(0, quarter.shape[0] - 1)
        value = quarter[row, column]
        torch.maximum(largest, value, out=largest)
        mean += value / LINE_SAMPLES
    return [largest.numpy(), mean.numpy()]
