"""Masks as COCO polygons along pixel edges, with every part and every hole kept.

A COCO polygon is one closed ring, so a hole is joined to the ring around it by a cut of no width: the ring runs out to
the hole, around it, and back. Filling the ring by either fill rule gives the mask again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label, regionprops

Ring = NDArray[np.int64]
"""(K, 2) corners (x, y) in pixels, closed implicitly: the last joins the first."""


def _corners(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The pixel corners (x, y) at which outlines turn, and which of them are entered twice.

    A corner turns when one or three of the four pixels around it are set. Where two diagonal pixels touch, two outlines
    meet, and the corner is listed twice in a row.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    top_left, top_right = padded[:-1, :-1], padded[:-1, 1:]
    bottom_left, bottom_right = padded[1:, :-1], padded[1:, 1:]
    total = top_left + top_right + bottom_left + bottom_right
    diagonal = (total == 2) & (top_left == bottom_right)
    ys, xs = np.nonzero((total % 2 == 1) | diagonal)
    twice = diagonal[ys, xs]
    repeats = 1 + twice.astype(np.int64)
    return np.stack([xs, ys], axis=1).repeat(repeats, axis=0), twice.repeat(repeats)


def _partners(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Corners sorted along their lines pair up two by two: the partner of each."""
    partners = np.empty_like(order)
    partners[order[0::2]] = order[1::2]
    partners[order[1::2]] = order[0::2]
    return partners


def outline_rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """The closed outlines of a 4-connected (H, W) region: the outer one and one for each hole, in no given order.

    Where two of its pixels touch at a corner only, the outlines pass the corner apart.
    """
    corners, twice = _corners(mask)
    if corners.shape[0] == 0:
        return []
    index = np.arange(corners.shape[0])
    # `corners` is sorted by (y, x) already, the two copies of a shared corner side by side; the first copy ends the
    # edge from the left, the second begins the edge to the right.
    across = _partners(index)
    # In column-major order the copies may go either way: the choice joins or separates the two diagonal pixels.
    second = np.zeros(index.size, dtype=np.int64)
    doubled = np.flatnonzero(twice)
    second[doubled[1::2]] = 1
    xs, ys = corners[:, 0], corners[:, 1]
    # Diagonal pixels are apart when the outline from the left turns towards its own pixel: up for \, down for /.
    set_left_above = np.pad(mask, 1)[ys, xs]
    rank = np.where(set_left_above, second, 1 - second)
    down = _partners(np.lexsort((rank, ys, xs)))

    rings = []
    seen = np.zeros(index.size, dtype=np.bool_)
    for start in index:
        if seen[start]:
            continue
        ring = []
        current = start
        while not seen[current]:
            turned = across[current]
            seen[current] = seen[turned] = True
            ring += [current, turned]
            current = down[turned]
        rings.append(corners[ring])
    return rings


def ring_area(ring: Ring) -> float:
    """Signed area in pixels (the shoelace formula)."""
    x, y = ring[:, 0].astype(np.float64), ring[:, 1].astype(np.float64)
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _bridge(ring: Ring, hole: Ring) -> Ring:
    """One ring that runs along `ring`, to `hole`, around it the other way, and back.

    The cut is walked once each way, so it adds nothing to any point's winding number, whatever it crosses.
    """
    distance = np.abs(ring[:, None, :] - hole[None, :, :]).sum(-1)
    at_ring, at_hole = np.unravel_index(int(distance.argmin()), distance.shape)
    if np.sign(ring_area(ring)) == np.sign(ring_area(hole)):
        hole = hole[::-1]
        at_hole = hole.shape[0] - 1 - at_hole
    around = np.roll(hole, -at_hole, axis=0)
    return np.concatenate([ring[: at_ring + 1], around, around[:1], ring[at_ring:]])


def polygons_from_mask(mask: NDArray[np.bool_]) -> list[Ring]:
    """Polygons of a (H, W) bool mask, one for each 4-connected part, its holes joined in by cuts of no width.

    Corners are pixel corners, so x lies in [0, W] and y in [0, H], and the rings' areas sum to the mask's pixels. An
    empty mask gives an empty list.
    """
    polygons = []
    for part in regionprops(label(mask, connectivity=1)):  # type: ignore[no-untyped-call]
        y0, x0, _, _ = part.bbox
        rings = sorted(outline_rings(part.image), key=lambda ring: abs(ring_area(ring)), reverse=True)
        outer = rings[0]
        for hole in rings[1:]:
            outer = _bridge(outer, hole)
        polygons.append(outer + np.array([x0, y0]))
    return polygons


def coco_segmentation(mask: NDArray[np.bool_]) -> list[list[float]]:
    """A COCO `segmentation`: for each polygon its corners as [x0, y0, x1, y1, …] in pixels."""
    return [[float(value) for value in polygon.ravel()] for polygon in polygons_from_mask(mask)]
