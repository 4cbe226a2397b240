"""Masks drawn over their image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everymask.images.resizing import shrink
from everymask.masks.runs import pixels_at
from everymask.pictures.colours import mask_colours
from everymask.records import ImageLabels

_NONE = -1
_DARKEN_UNCOVERED = 0.75


def overlay(
    image: NDArray[np.uint8], labels: ImageLabels, alpha: float = 0.5, max_side: int | None = None
) -> NDArray[np.uint8]:
    """The image under its masks: a translucent fill and a thin contour in one colour per mask.

    Colours follow the masks' order, or their classes. Smaller masks lie on top. Uncovered pixels are darkened a little.

    Args:
        image: (H, W, 3) uint8 RGB, of the labels' size.
        alpha: strength of the fill, [0, 1].
        max_side: longer side of the result in pixels; masks are drawn at that size.

    Returns (h, w, 3) uint8 RGB; raises ValueError if image and labels differ in size.
    """
    if image.shape[:2] != labels.size_hw:
        raise ValueError(f"the image is {image.shape[:2]}, its labels are for {labels.size_hw}")
    return painted(shrink(image, max_side), labels, alpha)


def painted(small: NDArray[np.uint8], labels: ImageLabels, alpha: float = 0.5) -> NDArray[np.uint8]:
    """`overlay` on an image already reduced: (h, w, 3) uint8 RGB of any size."""
    index = _top_mask(labels, small.shape[0], small.shape[1])
    colours = _colours(labels)
    covered = index != _NONE
    picture = small.astype(np.float32)
    picture[~covered] *= _DARKEN_UNCOVERED if labels.masks else 1.0
    fill = colours[index]
    picture[covered] += alpha * (fill[covered] - picture[covered])
    contour = _contour(index, width=max(1, round(max(small.shape[:2]) / 900)))
    picture[contour] = 0.25 * 255 + 0.75 * fill[contour]
    return np.rint(picture).astype(np.uint8)


def _top_mask(labels: ImageLabels, height: int, width: int) -> NDArray[np.int64]:
    """(height, width) index of the top mask at each pixel, -1 for none."""
    rows = ((np.arange(height) + 0.5) * labels.size_hw[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * labels.size_hw[1] / width).astype(np.int64)
    index = np.full((height, width), _NONE, dtype=np.int64)
    for position in sorted(range(len(labels.masks)), key=lambda i: labels.masks[i].area, reverse=True):
        mask = labels.masks[position]
        x0, y0, x1, y1 = mask.box_xyxy
        top, bottom = np.searchsorted(rows, (y0, y1))
        left, right = np.searchsorted(columns, (x0, x1))
        inside = pixels_at(mask.rle, rows[top:bottom], columns[left:right])
        index[top:bottom, left:right][inside] = position
    return index


def _colours(labels: ImageLabels) -> NDArray[np.float32]:
    """(masks + 1, 3) RGB of each mask; the last row, for index -1, is never seen."""
    slots = [position if mask.class_id is None else mask.class_id for position, mask in enumerate(labels.masks)]
    palette = mask_colours(max(slots, default=0) + 1).astype(np.float32)
    return np.concatenate([palette[slots], np.zeros((1, 3), np.float32)])


def _contour(index: NDArray[np.int64], width: int) -> NDArray[np.bool_]:
    """Pixels of a mask within `width` pixels of something else, on its own side; the image's border does not count."""
    edge = np.zeros(index.shape, dtype=np.bool_)
    for step in range(1, width + 1):
        down, right = index[step:] != index[:-step], index[:, step:] != index[:, :-step]
        edge[:-step] |= down
        edge[step:] |= down
        edge[:, :-step] |= right
        edge[:, step:] |= right
    inside: NDArray[np.bool_] = edge & (index != _NONE)
    return inside
