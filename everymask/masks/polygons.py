"""Masks as COCO polygons along pixel edges, with every part and hole kept.

A COCO polygon is one closed ring, so a hole is joined to the ring around it by a cut of no width, out and back. Either
fill rule then gives the mask again. Where pixels touch only at a corner, the outlines stay apart.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from everymask.masks.column_runs import ColumnRuns
from everymask.masks.tracing import trace

Ring = NDArray[np.int64]
"""(K, 2) corners (x, y) in pixels, closed implicitly: the last joins the first."""


def outline_rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """The closed outlines of a (H, W) mask: first of 4-connected parts (positive `ring_area`), then of holes
    (negative)."""
    outlines = trace(ColumnRuns.of_mask(mask))
    rings = outlines.corner_rings()
    return [rings[ring] for ring in np.argsort(outlines.is_hole, kind="stable")]


def ring_area(ring: Ring) -> float:
    """Signed area in pixels (the shoelace formula)."""
    x, y = ring[:, 0].astype(np.float64), ring[:, 1].astype(np.float64)
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def polygons_from_mask(mask: NDArray[np.bool_]) -> list[Ring]:
    """Polygons of a (H, W) bool mask, one per 4-connected part, its holes joined in by cuts of no width.

    Corners are pixel corners, so x lies in [0, W] and y in [0, H], and the areas sum to the mask's pixels. Parts come
    in raster order of their first pixels. An empty mask gives an empty list.
    """
    return trace(ColumnRuns.of_mask(mask), join_holes=True).corner_rings()


def joined_polygons(runs: ColumnRuns, num_masks: int) -> list[list[Ring]]:
    """`polygons_from_mask` for many masks of one size at once."""
    outlines = trace(runs, join_holes=True)
    rings = outlines.corner_rings()
    bounds = np.searchsorted(outlines.masks, np.arange(num_masks + 1)).tolist()
    return [rings[first:last] for first, last in itertools.pairwise(bounds)]


def coco_segmentation(mask: NDArray[np.bool_]) -> list[list[float]]:
    """A COCO `segmentation`: each polygon's corners as [x0, y0, x1, y1, …] in pixels."""
    return [[float(value) for value in polygon.ravel()] for polygon in polygons_from_mask(mask)]
