"""The superpixels of an image, their density map, and their place on a canvas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import felzenszwalb, slic

from everymask.backbone.protocol import ImageEmbedding
from everymask.entities.config import SuperpixelConfig

WORKING_SIDE_PX = 256
"""SAM's canvas: superpixels are then equally fine and fast for any backbone."""


@dataclass(frozen=True)
class Superpixels:
    """The superpixel map M_S of one image (E-SAM section 3.2).

    Attributes:
        masks: (K, P) bool over canvas cells, in the host's memory; a cell belongs to the superpixel that holds most of
            it, so one that owns no cell is empty.
        centroids: (K, 2) float32 (x, y) in original pixels: the pixel of the superpixel closest to its mean.
        density: (P,) float32 in (0, 1), the density map M_D (eq. 3) averaged over each cell; in the host's memory.
    """

    masks: torch.Tensor
    centroids: torch.Tensor
    density: NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.masks.shape[0])


def find_superpixels(embedding: ImageEmbedding, config: SuperpixelConfig) -> Superpixels:
    """Superpixels of the image on its canvas, at most `WORKING_SIDE_PX` along its longest side.

    The weight w_k of eq. 3 is our choice: a / (a + |S_k|) with a the median superpixel's area: a superpixel of common
    size weighs 1/2, the smallest nearly 1, the largest nearly 0.
    """
    canvas = embedding.canvas
    height, width = (math.ceil(extent) for extent in canvas.image_extent_hw)
    small = _superpixel_map(_working_image(embedding.canvas_image[:height, :width]), config)
    areas = np.bincount(small.ravel())
    scale = np.array([width / small.shape[1], height / small.shape[0]])
    centroids = canvas.to_original(torch.from_numpy((_inner_centroids(small, areas) + 0.5) * scale))

    past_image = ((0, canvas.size_hw[0] - height), (0, canvas.size_hw[1] - width))
    label_map = np.pad(_enlarged(small, (height, width)), past_image, mode="edge")
    weights = np.median(areas) / (np.median(areas) + areas)
    density = canvas.on_host.from_pixels(torch.from_numpy(weights[label_map].astype(np.float32))).numpy()
    owner = _majority(canvas.on_host.cell_index.numpy().ravel(), label_map.ravel(), canvas.num_cells)
    masks = torch.from_numpy(owner)[None] == torch.arange(areas.size)[:, None]
    return Superpixels(masks, centroids.to(canvas.cell_index.device, torch.float32), density)


def _working_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, scaled down if larger than superpixels need."""
    height, width = image.shape[:2]
    shrink = max(height, width) / WORKING_SIDE_PX
    if shrink <= 1:
        return image
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _enlarged(label_map: NDArray[np.int64], size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """The label under the centre of every pixel of a (height, width) grid laid over the label map."""
    rows, columns = (
        (np.arange(target) * 2 + 1) * source // (2 * target)
        for target, source in zip(size_hw, label_map.shape, strict=True)
    )
    return label_map[np.ix_(rows, columns)]


def _superpixel_map(image: NDArray[np.uint8], config: SuperpixelConfig) -> NDArray[np.int64]:
    """(H', W') int64 labels, consecutive from 0."""
    if config.method == "slic":
        labels = slic(image, n_segments=config.slic_count, sigma=config.sigma, start_label=0)
    else:
        min_size = max(1, round(config.min_area * image.shape[0] * image.shape[1]))
        labels = felzenszwalb(image, scale=config.scale, sigma=config.sigma, min_size=min_size)
    _, dense = np.unique(labels, return_inverse=True)
    return dense.reshape(labels.shape).astype(np.int64)


def _majority(cells: NDArray[np.int64], labels: NDArray[np.int64], num_cells: int) -> NDArray[np.int64]:
    """(num_cells,) the most frequent label in each cell; of equals the lowest."""
    num_labels = int(labels.max()) + 1
    pairs, counts = np.unique(cells * num_labels + labels, return_counts=True)
    best = np.lexsort((pairs, -counts, pairs // num_labels))
    first = np.searchsorted(pairs[best] // num_labels, np.arange(num_cells))
    winners: NDArray[np.int64] = pairs[best][first] % num_labels
    return winners


def _inner_centroids(label_map: NDArray[np.int64], areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K, 2) (column, row) of the pixel of each region that is closest to the region's mean pixel."""
    labels = label_map.ravel()
    rows, columns = (axis.ravel().astype(np.float64) for axis in np.indices(label_map.shape))
    mean_row = np.bincount(labels, rows) / areas
    mean_column = np.bincount(labels, columns) / areas
    distance = (rows - mean_row[labels]) ** 2 + (columns - mean_column[labels]) ** 2
    order = np.lexsort((distance, labels))
    closest = order[np.searchsorted(labels[order], np.arange(areas.size))]
    return np.stack([columns[closest], rows[closest]], axis=1)
