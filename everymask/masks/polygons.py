"""Masks as COCO polygons along pixel edges, with every part and every hole kept.

A COCO polygon is one closed ring, so a hole is joined to the ring around it by a cut of no width: the ring runs out to
the hole, around it, and back. Filling the ring by either fill rule gives the mask again. Time and memory grow with the
pixels and the corners, however many holes there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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


class _Outlines:
    """The closed outlines of a mask as linked lists of corners, to be cut open and joined.

    Node i < len(corners) is corner i; nodes that cuts add come after. `following` leads from node to node: clockwise on
    the screen around a part, the other way around a hole.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        corners, twice = _corners(mask)
        self._lines = corners[::2, 1] * (mask.shape[1] + 1) + corners[::2, 0]
        self._mask = mask
        self.xs: list[int] = corners[:, 0].tolist()
        self.ys: list[int] = corners[:, 1].tolist()
        self.following: list[int] = [0] * len(self.xs)
        self.parts: list[int] = []
        self.holes: list[int] = []
        self._link(_partners_down(mask, corners, twice))

    def _link(self, down: list[int]) -> None:
        """Trace the outlines: along a row to the corner's neighbour in the list, then along a column."""
        seen = bytearray(len(self.xs))
        # Corners are sorted, so an outline is met at its topmost corner, the left one of these: it goes right first.
        for start in range(len(self.xs)):
            if seen[start]:
                continue
            is_part = bool(self._mask[self.ys[start], self.xs[start]])
            (self.parts if is_part else self.holes).append(start)
            current = start
            while not seen[current]:
                turned = current ^ 1
                after = down[turned]
                seen[current] = seen[turned] = True
                if is_part:
                    self.following[current], self.following[turned] = turned, after
                else:
                    self.following[turned], self.following[after] = current, turned
                current = after

    def join_holes(self) -> None:
        """Join every hole to the outline straight above its first corner, by a cut there and back.

        That outline is met higher up, so the joined outlines make a tree with a part at its root.
        """
        above: dict[int, list[tuple[int, int]]] = {}
        tops = _tops_of_runs(self._mask)
        for hole in self.holes:
            x, y = self.xs[hole], self.ys[hole]
            line = int(tops[y - 1, x]) * (self._mask.shape[1] + 1) + x
            edge = int(self._lines.searchsorted(line, side="right")) - 1
            above.setdefault(2 * edge, []).append((x, hole))
        for left, holes in above.items():
            rightwards = self.following[left] == left + 1
            begin, end = (left, left + 1) if rightwards else (left + 1, left)
            for x, hole in sorted(holes, reverse=not rightwards):
                enter = self._add(x, self.ys[left])
                around = self._add(x, self.ys[hole])
                leave = self._add(x, self.ys[left])
                self.following[begin], self.following[enter] = enter, around
                self.following[around], self.following[hole] = self.following[hole], leave
                begin = leave
            self.following[begin] = end

    def _add(self, x: int, y: int) -> int:
        self.xs.append(x)
        self.ys.append(y)
        self.following.append(0)
        return len(self.xs) - 1

    def ring(self, start: int) -> Ring:
        """The corners of one outline, in order."""
        ring: list[tuple[int, int]] = []
        node = start
        while True:
            corner = (self.xs[node], self.ys[node])
            if not ring or ring[-1] != corner:
                ring.append(corner)
            node = self.following[node]
            if node == start:
                return np.array(ring, dtype=np.int64)


def _partners_down(mask: NDArray[np.bool_], corners: NDArray[np.int64], twice: NDArray[np.bool_]) -> list[int]:
    """The corner at the other end of the vertical edge of each corner.

    Of a corner that is listed twice, the first copy ends the edge from the left, the second begins the edge to the
    right; which of them goes up and which down joins or separates the two diagonal pixels.
    """
    second = np.zeros(corners.shape[0], dtype=np.int64)
    second[np.flatnonzero(twice)[1::2]] = 1
    xs, ys = corners[:, 0], corners[:, 1]
    # Diagonal pixels are apart when the outline from the left turns towards its own pixel: up for \, down for /.
    set_left_above = np.pad(mask, 1)[ys, xs]
    order = np.lexsort((np.where(set_left_above, second, 1 - second), ys, xs))
    # Sorted along their columns, corners pair up two by two.
    partners = np.empty_like(order)
    partners[order[0::2]] = order[1::2]
    partners[order[1::2]] = order[0::2]
    down: list[int] = partners.tolist()
    return down


def _tops_of_runs(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """(H, W) int32: for a set pixel the first row of the unbroken vertical run that it belongs to."""
    rows = np.arange(1, mask.shape[0] + 1, dtype=np.int32)[:, None]
    return np.maximum.accumulate(np.where(mask, np.int32(0), rows), axis=0)


def outline_rings(mask: NDArray[np.bool_]) -> list[Ring]:
    """The closed outlines of a (H, W) mask: those around 4-connected parts first, then those around holes.

    Where two set pixels touch at a corner only, the outlines pass the corner apart. Outlines of parts have a positive
    `ring_area`, those of holes a negative one.
    """
    outlines = _Outlines(mask)
    return [outlines.ring(start) for start in outlines.parts + outlines.holes]


def ring_area(ring: Ring) -> float:
    """Signed area in pixels (the shoelace formula)."""
    x, y = ring[:, 0].astype(np.float64), ring[:, 1].astype(np.float64)
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def polygons_from_mask(mask: NDArray[np.bool_]) -> list[Ring]:
    """Polygons of a (H, W) bool mask, one for each 4-connected part, its holes joined in by cuts of no width.

    Corners are pixel corners, so x lies in [0, W] and y in [0, H], and the rings' areas sum to the mask's pixels. Parts
    come in the order of their first pixels, row by row. An empty mask gives an empty list.
    """
    outlines = _Outlines(mask)
    if outlines.holes:
        outlines.join_holes()
    return [outlines.ring(start) for start in outlines.parts]


def coco_segmentation(mask: NDArray[np.bool_]) -> list[list[float]]:
    """A COCO `segmentation`: for each polygon its corners as [x0, y0, x1, y1, …] in pixels."""
    return [[float(value) for value in polygon.ravel()] for polygon in polygons_from_mask(mask)]
