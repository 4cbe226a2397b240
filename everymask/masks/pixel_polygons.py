"""Masks as polygons through pixel centres, and the masks that such polygons fill to.

Trainers that draw with `cv2.fillPoly` treat corners as pixels and include the outline. There, an outline along pixel
edges becomes a pixel too wide, but one through the outermost pixels comes back exactly; holes are joined by cuts inside
the mask. A mask of several parts becomes one ring, so the lines between its parts are drawn too; parts with fewer
pixels than their connecting line are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from everymask.masks.column_runs import ColumnRuns, Ints, union_of_spans
from everymask.masks.rle import rle_areas
from everymask.masks.runs import places_within, rles_from_runs
from everymask.masks.sorting import sorted_integers
from everymask.masks.tracing import trace
from everymask.records import Rle


def pixel_polygons(rles: Sequence[Rle], size_hw: tuple[int, int]) -> list[Ints]:
    """For each mask, one ring of (K, 2) pixels (x, y), closed implicitly; (0, 2) for an empty mask.

    Parts that touch only at a corner count as one. Other parts are joined to the largest where they are nearest.
    """
    outlines = trace(ColumnRuns.of_rles(rles, size_hw), diagonals_join=True, join_holes=True)
    rings = outlines.pixel_rings()
    bounds = np.searchsorted(outlines.masks, np.arange(len(rles) + 1))
    several = np.diff(bounds)[outlines.masks] > 1
    areas = np.zeros(len(rings), dtype=np.int64)
    areas[several] = rle_areas(fill_pixel_polygons([rings[part] for part in np.flatnonzero(several)], size_hw))
    return [_joined(rings[first:last], areas[first:last]) for first, last in itertools.pairwise(bounds.tolist())]


def _joined(rings: list[Ints], areas: Ints) -> Ints:
    """Join the rings of a mask's parts into one, drawing few extra pixels; `areas` (K,) are the parts' pixels."""
    if len(rings) < 2:
        return rings[0] if rings else np.zeros((0, 2), dtype=np.int64)
    dense = [_all_pixels(ring) for ring in rings]
    points = np.concatenate([pixels for pixels, _ in dense])
    is_corner = np.concatenate([corners for _, corners in dense])
    firsts = np.cumsum([0, *(len(pixels) for pixels, _ in dense)])
    owners = np.repeat(np.arange(len(rings)), np.diff(firsts))
    largest = int(areas.argmax())
    lines = _shortest_lines(points, owners, firsts, largest)
    cuts: dict[int, list[int]] = {}
    for start, end in _worthwhile(lines, points, owners, areas):
        cuts.setdefault(start, []).append(end)
        is_corner[[start, end]] = True
    # Out along every cut, around the part behind it, and back, without recursion: parts may hang in a long chain.
    order: list[int] = []
    stack = [iter(range(firsts[largest], firsts[largest + 1]))]
    while stack:
        vertex = next(stack[-1], None)
        if vertex is None:
            stack.pop()
            continue
        order.append(vertex)
        for point in cuts.pop(vertex, ()):
            first, last = int(firsts[owners[point]]), int(firsts[owners[point] + 1])
            stack.append(iter([*range(point, last), *range(first, point), point, vertex]))
    return points[[vertex for vertex in order if is_corner[vertex]]]


def _shortest_lines(points: Ints, owners: Ints, firsts: Ints, root: int) -> list[tuple[int, int]]:
    """Lines (joined point, new point) that connect all parts, in the order of Prim's algorithm.

    Args:
        points: (N, 2) pixels of all outlines, part by part.
        owners: (N,) the part of each.
        firsts: (K + 1,) index of each part's first pixel, then N.
        root: the part to begin with.
    """
    distance = np.full(len(points), np.inf)
    nearest = np.zeros(len(points), dtype=np.int64)
    waiting = owners != root
    lines = []
    added = root
    for _ in range(len(firsts) - 2):
        here = np.flatnonzero(waiting)
        # As many pixels are drawn between two pixels as they are apart along the longer side.
        least, best = KDTree(points[firsts[added] : firsts[added + 1]]).query(points[here], p=np.inf)
        nearer = least < distance[here]
        distance[here[nearer]] = least[nearer]
        nearest[here[nearer]] = best[nearer] + firsts[added]
        point = int(here[distance[here].argmin()])
        lines.append((int(nearest[point]), point))
        added = int(owners[point])
        waiting[owners == added] = False
    return lines


def _worthwhile(lines: list[tuple[int, int]], points: Ints, owners: Ints, areas: Ints) -> Iterator[tuple[int, int]]:
    """The lines whose parts hold at least as many mask pixels as the lines draw."""
    gain: list[int] = areas.tolist()
    for start, end in reversed(lines):
        drawn = int(np.abs(points[end] - points[start]).max()) - 1
        if gain[owners[end]] >= drawn:
            gain[owners[start]] += gain[owners[end]] - drawn
            yield start, end


def _all_pixels(ring: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Every pixel along a ring of horizontal, vertical and diagonal lines, and which are corners."""
    way: Ints = np.roll(ring, -1, axis=0) - ring
    steps: Ints = np.maximum(np.abs(way).max(axis=1), 1)
    along = places_within(steps)
    direction: Ints = np.repeat(way.clip(-1, 1), steps, axis=0)
    pixels: Ints = np.repeat(ring, steps, axis=0) + direction * along[:, None]
    return pixels, along == 0


def fill_pixel_polygons(polygons: Sequence[Ints], size_hw: tuple[int, int]) -> list[Rle]:
    """The masks that `cv2.fillPoly` draws of polygons of (K, 2) pixels (x, y) inside the image, one each.

    A pixel is set where its centre lies inside by the even-odd rule, or where a side touches it. Sides are Bresenham
    lines from left to right, halves rounded down, as in OpenCV's `LineIterator`.
    """
    height, width = size_hw
    lengths = np.array([len(polygon) for polygon in polygons], dtype=np.int64)
    ends = np.cumsum(lengths)
    if not ends.size or not ends[-1]:
        return rles_from_runs([np.array([height * width])] * len(polygons), size_hw)
    corners = np.concatenate(list(polygons)).astype(np.int64)
    owners = np.repeat(np.arange(lengths.size), lengths)
    following = np.arange(1, corners.shape[0] + 1)
    used = lengths > 0
    following[ends[used] - 1] = (ends - lengths)[used]
    x0, y0 = corners.T
    x1, y1 = corners[following].T
    swap = x1 < x0
    x0, x1, y0, y1 = np.where(swap, x1, x0), np.where(swap, x0, x1), np.where(swap, y1, y0), np.where(swap, y0, y1)
    columns = owners * width
    starts, stops = zip(
        _interior(x0, y0, x1, y1, columns, height), _lines(x0, y0, x1, y1, columns, height), strict=True
    )
    return union_of_spans(np.concatenate(starts), np.concatenate(stops), len(polygons), size_hw)


def _interior(x0: Ints, y0: Ints, x1: Ints, y1: Ints, columns: Ints, height: int) -> tuple[Ints, Ints]:
    """First positions and positions behind the last of the runs inside polygons, column by column.

    A position is column x height + row, with the columns of all masks in sequence.
    """
    wide = x1 > x0
    x0, y0, x1, y1, columns = x0[wide], y0[wide], x1[wide], y1[wide], columns[wide]
    span = x1 - x0
    along = places_within(span)
    crossing = np.repeat(y0, span) - (-along * np.repeat(y1 - y0, span) // np.repeat(span, span))
    positions = sorted_integers((np.repeat(columns + x0, span) + along) * height + crossing)
    starts, stops = positions[0::2], positions[1::2]
    some = stops > starts
    return starts[some], stops[some]


def _lines(x0: Ints, y0: Ints, x1: Ints, y1: Ints, columns: Ints, height: int) -> tuple[Ints, Ints]:
    """Runs that lines cover; a vertical line is one run."""
    wide, tall = x1 - x0, np.abs(y1 - y0)
    upright = wide == 0
    start = (columns + x0) * height + np.minimum(y0, y1)
    start, stop = start[upright], (start + tall + 1)[upright]
    x0, y0, wide, tall, columns = (values[~upright] for values in (x0, y0, wide, tall, columns))
    step = np.sign(y1[~upright] - y0)
    steep = tall > wide
    major, minor = np.where(steep, tall, wide), np.where(steep, wide, tall)
    count = major + 1
    along = places_within(count)
    major, minor, steep = (np.repeat(values, count) for values in (major, minor, steep))
    aside = (2 * minor * along + major - 1) // (2 * major)
    x = np.repeat(columns + x0, count) + np.where(steep, aside, along)
    y = np.repeat(y0, count) + np.repeat(step, count) * np.where(steep, along, aside)
    pixels = x * height + y
    return np.concatenate([start, pixels]), np.concatenate([stop, pixels + 1])
