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
        x, y = self.corners.reshape(-1, 2).T
        return _rings(*_without(x, y, 2 * self.bounds, _repeated))

    def pixel_rings(self) -> list[Ints]:
        """(K,) rings of pixels (x, y); consecutive ones lie on a horizontal, vertical or diagonal line through the
        mask."""
        edge_x, edge_y = self.corners[:, 1].T
        down = _next(self.corners[:, 0, 1], self.bounds) > edge_y
        # Along a vertical edge the mask lies to the left of one that goes down.
        x, y = np.empty((len(down), 4), dtype=np.int64), np.empty((len(down), 4), dtype=np.int64)
        x[:, :2], y[:, :2] = self.pixels[:, :, 0], self.pixels[:, :, 1]
        x[:, 2] = x[:, 3] = edge_x - down
        y[:, 2] = edge_y - ~down
        y[:, 3] = _next(self.corners[:, 0, 1], self.bounds) - down
        x[self.jumps, 2:] = self.pixels[self.jumps, 1, :1]
        y[self.jumps, 2:] = self.pixels[self.jumps, 1, 1:]
        found = _without(x.reshape(-1), y.reshape(-1), 4 * self.bounds, _repeated)
        return _rings(*_without(*found, _straight))


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
        height, width = runs.size_hw
        x, y, masks, kinds, first_right = _corners(runs, diagonals_join)
        # Sorted along rows, corners pair up two by two, as they do along columns in the order they come in.
        order = integer_order(((masks * (height + 1) + y) * (width + 1) + x) * 2 + first_right)
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

    Returns x, y, the mask, the kind of the horizontal edge to the corner's right (if any), and, for corners that come
    twice, whether this is the second along its row.
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
    second_along_row = np.zeros(keys.size, dtype=np.int64)
    swapped = falls == diagonals_join
    second_along_row[first], second_along_row[first + 1] = swapped, ~swapped
    line, y = np.divmod(places, height + 1)
    masks, x = np.divmod(line, width + 1)
    return x, y, masks, kinds, second_along_row


def _walk(following: Ints) -> tuple[Ints, Ints]:
    """Every cycle of a permutation, ordered by least element: all elements, and the cycles' bounds.

    Every element looks 1, 2, 4, … steps ahead or back at a time, until it has seen its whole cycle.
    """
    elements = np.arange(following.size)
    least, ahead = np.minimum(elements, following), following
    while (least[following] != least).any():
        ahead = ahead[ahead]
        least = np.minimum(least, least[ahead])
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


def _repeated(x: Ints, y: Ints, bounds: Ints) -> NDArray[np.bool_]:
    """Whether each vertex is followed by an equal one."""
    same: NDArray[np.bool_] = (_next(x, bounds) == x) & (_next(y, bounds) == y)
    return same


def _straight(x: Ints, y: Ints, bounds: Ints) -> NDArray[np.bool_]:
    """Whether the ring goes straight on at each vertex; neighbours lie in one of eight directions."""
    ahead = 3 * np.sign(_next(x, bounds) - x) + np.sign(_next(y, bounds) - y)
    behind = np.empty_like(ahead)
    behind[1:] = ahead[:-1]
    behind[bounds[:-1]] = ahead[bounds[1:] - 1]
    straight: NDArray[np.bool_] = ahead == behind
    return straight


def _without(
    x: Ints, y: Ints, bounds: Ints, is_unwanted: Callable[[Ints, Ints, Ints], NDArray[np.bool_]]
) -> tuple[Ints, Ints, Ints]:
    """Drop unwanted vertices from rings, but never all of a ring; also the rings' new bounds."""
    if not x.size:
        return x, y, bounds
    keep = ~is_unwanted(x, y, bounds)
    kept = np.diff(np.concatenate([[0], np.cumsum(keep)])[bounds])
    keep[bounds[:-1][kept == 0]] = True
    return x[keep], y[keep], np.concatenate([[0], np.cumsum(np.maximum(kept, 1))])


def _rings(x: Ints, y: Ints, bounds: Ints) -> list[Ints]:
    return np.split(np.stack([x, y], axis=1), bounds[1:-1]) if x.size else []
