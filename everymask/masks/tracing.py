"""Outlines of all masks of an image, traced along pixel edges from their run lengths.

Time and memory grow with the masks' runs and corners, not with the image's pixels; almost all masks' work is
vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.masks.column_runs import ColumnRuns, Ints
from everymask.masks.sorting import integer_order

_TOP, _BOTTOM = 0, 1
_X_BITS = 31
_X_MASK = (1 << _X_BITS) - 1


@dataclass(frozen=True)
class Outlines:
    """Closed outlines: horizontal edges joined by vertical ones, with the mask's pixels on their right.

    Outlines run clockwise on the screen around parts, anticlockwise around holes. They are ordered by mask, then by
    first pixel in raster order.

    Attributes:
        bounds: (K + 1,) index of each outline's first edge, then the number of edges E.
        masks: (K,) the mask each outline belongs to.
        is_hole: (K,) bool.
        corners: (E, 2, 2) the two corners (x, y) of each edge, at pixel corners, in order.
        pixels: (E, 2, 2) the first and last mask pixel (x, y) along each edge, in order.
        jumps: (E,) bool: a cut through the mask, not a vertical edge, leads to the next edge.
    """

    bounds: Ints
    masks: Ints
    is_hole: NDArray[np.bool_]
    corners: Ints
    pixels: Ints
    jumps: NDArray[np.bool_]

    def corner_rings(self) -> list[Ints]:
        """(K,) rings of corners (x, y), without repeated ones."""
        points = _points(self.corners[:, :, 0], self.corners[:, :, 1])
        return _rings(*_without(points.reshape(-1), 2 * self.bounds, _repeated))

    def pixel_rings(self) -> list[Ints]:
        """(K,) rings of pixels (x, y); consecutive ones lie on a horizontal, vertical or diagonal line through the
        mask."""
        starts_y, (edge_x, edge_y) = self.corners[:, 0, 1], self.corners[:, 1].T
        next_y = _next(starts_y, self.bounds)
        down = next_y > edge_y
        # An edge's first and last pixel, and those of the vertical edge behind it: the mask lies to the left of one
        # that goes down. Comparing whole points is faster than comparing their x and y.
        points = np.empty((len(down), 4), dtype=np.int64)
        points[:, :2] = _points(self.pixels[:, :, 0], self.pixels[:, :, 1])
        points[:, 2] = _points(edge_x - down, edge_y - ~down)
        points[:, 3] = _points(edge_x - down, next_y - down)
        points[self.jumps, 2:] = points[self.jumps, 1:2]
        found, bounds = _without(points.reshape(-1), 4 * self.bounds, _repeated)
        found, bounds = _without(found, bounds, _straight)
        return _rings(found, bounds)


def trace(runs: ColumnRuns, diagonals_join: bool = False, join_holes: bool = False) -> Outlines:
    """Trace masks.

    Args:
        diagonals_join: whether pixels that touch only at a corner belong to one part.
        join_holes: cut from each hole to the outline above it and back, so that each part has one outline.
    """
    edges = _Edges(runs, diagonals_join)
    order, bounds = _walk(edges.following)
    if join_holes:
        starts = order[bounds[:-1]]
        holes = starts[~edges.is_top[starts]]
        if holes.size:
            edges.join(holes, runs)
            order, bounds = _walk(edges.following)
    starts = order[bounds[:-1]]
    return Outlines(
        bounds,
        edges.masks[starts],
        ~edges.is_top[starts],
        edges.corners[order],
        edges.pixels[order],
        edges.jumps[order],
    )


class _Edges:
    """The outlines' horizontal edges, sorted by mask, row and column, and the edge that follows each."""

    def __init__(self, runs: ColumnRuns, diagonals_join: bool) -> None:
        height, _ = runs.size_hw
        x, y, masks, kinds, second = _corners(runs, diagonals_join)
        # Sorted along rows, corners pair up two by two, as they do along columns in the order they come in. That is
        # mask by mask from left to right, which a stable sort by row keeps but for twins in the other order.
        along_columns = np.arange(x.size)
        along_columns[second] += 1
        along_columns[second + 1] -= 1
        order = along_columns[integer_order(masks * (height + 1) + y)]
        left, right = order[0::2], order[1::2]
        self.is_top = kinds[left] == _TOP
        start, end = np.where(self.is_top, left, right), np.where(self.is_top, right, left)
        edge_of = np.empty_like(order)
        edge_of[left] = edge_of[right] = np.arange(left.size)
        self.following = edge_of[end ^ 1]
        self.masks = masks[left]
        self.corners = np.stack([x[start], y[start], x[end], y[end]], axis=1).reshape(-1, 2, 2)
        # The pixels of an edge lie below one that goes right, above one that goes left.
        towards = np.where(self.is_top[:, None], [[0, 0, -1, 0]], [[-1, -1, 0, -1]]).reshape(-1, 2, 2)
        self.pixels = self.corners + towards
        self.jumps = np.zeros(left.size, dtype=np.bool_)

    def join(self, holes: Ints, runs: ColumnRuns) -> None:
        """Cut from each hole, given by its first edge, to the nearest edge straight above it.

        Those edges lie higher up, so the joined outlines form a tree with a part at its root.
        """
        height, width = runs.size_hw
        x, y, masks = self.corners[holes, 1, 0], self.corners[holes, 1, 1], self.masks[holes]
        keys = runs.lines * (height + 1) + runs.bottoms
        tops = runs.tops[np.searchsorted(keys, (masks * width + x) * (height + 1) + y)]
        lefts = np.minimum(self.corners[:, 0, 0], self.corners[:, 1, 0])
        rows = (self.masks * (height + 1) + self.corners[:, 0, 1]) * (width + 1) + lefts
        above = np.searchsorted(rows, (masks * (height + 1) + tops) * (width + 1) + x, side="right") - 1
        following, jumps = self.following.tolist(), self.jumps.tolist()
        corners, pixels = self.corners.tolist(), self.pixels.tolist()
        masks_of: list[int] = self.masks.tolist()
        last_piece: dict[int, int] = {}
        order = np.lexsort((x, above))
        for edge, hole, column, row in zip(*(a[order].tolist() for a in (above, holes, x, y)), strict=True):
            piece = last_piece.get(edge, edge)
            enter = len(following)
            last_piece[edge] = rest = enter + 1
            (_, top), (_, pixel_row) = corners[piece][0], pixels[piece][0]
            corners += [[[column, row], [column, row]], [[column, top], corners[piece][1]]]
            pixels += [[[column, row - 1], [column, row - 1]], [[column, pixel_row], pixels[piece][1]]]
            corners[piece] = [corners[piece][0], [column, top]]
            pixels[piece] = [pixels[piece][0], [column, pixel_row]]
            following += [following[hole], following[piece]]
            following[hole], following[piece] = rest, enter
            jumps += [False, jumps[piece]]
            jumps[hole] = jumps[piece] = True
            masks_of += [masks_of[edge]] * 2
        self.following, self.jumps = np.array(following), np.array(jumps)
        self.corners, self.pixels, self.masks = np.array(corners), np.array(pixels), np.array(masks_of)
        self.is_top = np.concatenate([self.is_top, np.ones(2 * holes.size, dtype=np.bool_)])


def _corners(runs: ColumnRuns, diagonals_join: bool) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """The corners where outlines turn, by mask, column and row; corners 2 i and 2 i + 1 end one vertical edge.

    Where two pixels touch only at a corner, two outlines meet, and the corner comes twice: as the end of the edge above
    it and of the edge below it.

    Returns x, y, the mask, the kind of the horizontal edge to the corner's right (if any), and the numbers of corners
    that come twice and here as the first, but along their row as the second.
    """
    height, width = runs.size_hw
    lines = runs.lines + runs.lines // width  # there is one vertical line more than there are columns
    ends = np.stack([lines * (height + 1) + runs.tops, lines * (height + 1) + runs.bottoms], axis=1) * 4
    ends[:, 1] += 2 * _BOTTOM
    # Four bits: a run's end on the line to its left, and on the line to its right.
    keys = np.concatenate([ends.reshape(-1), ends.reshape(-1) + 4 * (height + 1) + 1])
    keys.sort(kind="stable")  # two sorted halves, which it merges
    # Where runs of neighbouring columns end alike, the outline goes straight on.
    straight = np.flatnonzero(keys[1:] >> 1 == keys[:-1] >> 1)
    keep = np.ones(keys.size, dtype=np.bool_)
    keep[straight] = keep[straight + 1] = False
    keys = keys[keep]
    kinds, places = (keys >> 1) & 1, keys >> 2
    first = np.flatnonzero(places[1:] == places[:-1])
    # Set pixels lie top left and bottom right, \, where the run that begins here is the one to the right.
    falls = (keys[first] & 1) == 0
    kinds[first] = kinds[first + 1] = np.where(falls, _TOP, _BOTTOM)
    line, y = np.divmod(places, height + 1)
    masks, x = np.divmod(line, width + 1)
    return x, y, masks, kinds, first[falls == diagonals_join]


def _walk(following: Ints) -> tuple[Ints, Ints]:
    """Every cycle of a permutation, ordered by least element: all elements, and the cycles' bounds.

    Every element looks 1, 2, 4, … steps ahead or back at a time, until it has seen its whole cycle.
    """
    elements = np.arange(following.size)
    least, ahead = np.minimum(elements, following), following
    while True:
        ahead = ahead[ahead]
        farther = np.minimum(least, least[ahead])
        if np.array_equal(farther, least):  # if none finds less twice as far on, all have seen their whole cycle
            break
        least = farther
    before = np.empty_like(following)
    before[following] = elements
    firsts = least == elements
    before[firsts] = elements[firsts]
    steps = (~firsts).astype(np.int64)
    while (before != least).any():
        steps += steps[before]
        before = before[before]
    lengths = np.bincount(least, minlength=following.size)
    starts = np.cumsum(lengths) - lengths
    order = np.empty_like(following)
    order[starts[least] + steps] = elements
    return order, np.append(starts[firsts], following.size)


def _next(values: Ints, bounds: Ints) -> Ints:
    """The value of each ring vertex's successor."""
    after = np.empty_like(values)
    after[:-1] = values[1:]
    after[bounds[1:] - 1] = values[bounds[:-1]]
    return after


def _points(x: Ints, y: Ints) -> Ints:
    """Points (x, y), neither negative and x below 2^31, as single numbers."""
    points: Ints = (y << _X_BITS) | x
    return points


def _repeated(points: Ints, bounds: Ints) -> NDArray[np.bool_]:
    """Whether each vertex is followed by an equal one."""
    same: NDArray[np.bool_] = _next(points, bounds) == points
    return same


def _straight(points: Ints, bounds: Ints) -> NDArray[np.bool_]:
    """Whether the ring goes straight on at each vertex; neighbours lie in one of eight directions."""
    x, y = points & _X_MASK, points >> _X_BITS
    ahead = 3 * np.sign(_next(x, bounds) - x) + np.sign(_next(y, bounds) - y)
    behind = np.empty_like(ahead)
    behind[1:] = ahead[:-1]
    behind[bounds[:-1]] = ahead[bounds[1:] - 1]
    straight: NDArray[np.bool_] = ahead == behind
    return straight


def _without(points: Ints, bounds: Ints, is_unwanted: Callable[[Ints, Ints], NDArray[np.bool_]]) -> tuple[Ints, Ints]:
    """Drop unwanted vertices from rings, but never all of a ring; also the rings' new bounds."""
    if not points.size:
        return points, bounds
    keep = ~is_unwanted(points, bounds)
    kept = np.diff(np.concatenate([[0], np.cumsum(keep)])[bounds])
    keep[bounds[:-1][kept == 0]] = True
    return points.compress(keep), np.concatenate([[0], np.cumsum(np.maximum(kept, 1))])


def _rings(points: Ints, bounds: Ints) -> list[Ints]:
    if not points.size:
        return []
    return np.split(np.stack([points & _X_MASK, points >> _X_BITS], axis=1), bounds[1:-1])
