"""Polygons along pixel edges filled as pycocotools fills them, those of many masks at once.

pycocotools draws each outline at five times the size, and looks in each column of pixels where it crosses the column's
middle (`rleFrPoly` in cocoapi's maskApi.c). The same crossings are found here for all edges together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.masks.column_runs import ColumnRuns, Ints, union_of_spans
from everymask.masks.runs import places_within
from everymask.masks.sorting import sorted_integers
from everymask.records import Rle

_SCALE = 5
_MIDDLE = _SCALE // 2
"""A column's middle lies between this position and the next, behind the column's first."""


def fill_edge_polygons(polygons: Sequence[Sequence[NDArray[np.number]]], size_hw: tuple[int, int]) -> list[Rle]:
    """For each mask the union of its polygons, (K, 2) corners (x, y) in pixels, closed implicitly.

    Corners and polygons are as for `edge_polygon_runs`.
    """
    return edge_polygon_runs(polygons, size_hw).rles(len(polygons))


def edge_polygon_runs(polygons: Sequence[Sequence[NDArray[np.number]]], size_hw: tuple[int, int]) -> ColumnRuns:
    """`fill_edge_polygons` before encoding.

    Corners are trusted: those of outside are checked, and filled, by `everymask.masks.checked.fill_polygons`. Polygons
    of fewer than three corners fill nothing.
    """
    height, width = size_hw
    rings = [ring for of_mask in polygons for ring in of_mask if len(ring) >= 3]
    if not rings:
        return union_of_spans(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), size_hw)
    lengths = np.array([len(ring) for ring in rings])
    ends = np.cumsum(lengths)
    corners = (_SCALE * np.concatenate(rings) + 0.5).astype(np.int64)
    following = np.arange(1, len(corners) + 1)
    following[ends - 1] = ends - lengths
    owners = np.repeat(np.arange(lengths.size), lengths)
    places, columns, rows = _crossings(corners, corners[following], width)
    rows = rows.clip(0, height)
    positions = sorted_integers((owners[places] * width + columns) * height + rows)
    starts, stops = positions[0::2], positions[1::2]
    some = stops > starts
    starts, stops = starts[some], stops[some]
    # From each polygon's image to its mask's.
    masks = np.repeat(np.arange(len(polygons)), [sum(len(ring) >= 3 for ring in of_mask) for of_mask in polygons])
    shift = (masks - np.arange(masks.size))[starts // (height * width)] * (height * width)
    return union_of_spans(starts + shift, stops + shift, size_hw)


def _crossings(begins: Ints, ends: Ints, width: int) -> tuple[Ints, Ints, Ints]:
    """Where edges from `begins` to `ends`, (E, 2) each in fifths of a pixel, cross the middles of columns.

    Returns for each crossing its edge, its column in [0, width), and the first row below it.
    """
    # pycocotools goes along the longer side of an edge, towards larger numbers.
    wide, tall = np.abs(ends - begins).T
    flip = np.where(wide >= tall, begins[:, 0] > ends[:, 0], begins[:, 1] > ends[:, 1])
    x0, y0 = np.where(flip[:, None], ends, begins).T
    x1, y1 = np.where(flip[:, None], begins, ends).T
    first = np.maximum(-((_MIDDLE - np.minimum(x0, x1)) // _SCALE), 0)
    last = np.minimum((np.maximum(x0, x1) - _MIDDLE - 1) // _SCALE, width - 1)
    count = np.maximum(last - first + 1, 0)
    edges = np.repeat(np.arange(count.size), count)
    columns = np.repeat(first, count) + places_within(count)
    rows = y0[edges]
    sloping = np.flatnonzero((y0 != y1)[edges])
    if sloping.size:
        chosen = edges[sloping]
        middles = columns[sloping] * _SCALE + _MIDDLE
        flat = (wide >= tall)[chosen]
        for way, found in ((flat, _rows_of_flat), (~flat, _rows_of_steep)):
            of = chosen[way]
            rows[sloping[way]] = found(x0[of], y0[of], x1[of], y1[of], middles[way])
    return edges, columns, (rows + _MIDDLE) // _SCALE


def _rows_of_flat(x0: Ints, y0: Ints, x1: Ints, y1: Ints, middles: Ints) -> Ints:
    """The upper of an edge's points on both sides of a column's middle, for edges at least as wide as high."""
    slope = (y1 - y0) / (x1 - x0)
    upper: Ints = np.minimum(*((y0 + slope * (middles + side - x0) + 0.5).astype(np.int64) for side in (0, 1)))
    return upper


def _rows_of_steep(x0: Ints, y0: Ints, x1: Ints, y1: Ints, middles: Ints) -> Ints:
    """The last point before an edge crosses a column's middle, for edges higher than wide."""
    slope = (x1 - x0) / (y1 - y0)
    along = np.floor((middles + 0.5 - x0) / slope).astype(np.int64) - 1
    for _ in range(3):  # rounding may put the guess beside the point
        beyond = (x0 + slope * (along + 1) + 0.5).astype(np.int64) > middles
        along += np.where(beyond == (slope > 0), 0, 1)
    return y0 + along
