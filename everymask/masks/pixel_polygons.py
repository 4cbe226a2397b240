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

from everymask.masks.column_runs import ColumnRuns, Ints, union_of_spans
from everymask.masks.runs import places_within
from everymask.masks.sorting import sorted_integers
from everymask.masks.tracing import trace
from everymask.records import Rle


def pixel_polygons(runs: ColumnRuns, num_masks: int) -> list[Ints]:
    """For each mask, one ring of (K, 2) pixels (x, y), closed implicitly; (0, 2) for an empty mask.

    Parts that touch only at a corner count as one. Other parts are joined to the largest where they are nearest.
    """
    outlines = trace(runs, diagonals_join=True, join_holes=True)
    rings = outlines.pixel_rings()
    bounds = np.searchsorted(outlines.masks, np.arange(num_masks + 1))
    several = np.flatnonzero(np.diff(bounds)[outlines.masks] > 1)
    areas = np.zeros(len(rings), dtype=np.int64)
    if several.size:
        areas[several] = filled_runs([rings[part] for part in several], runs.size_hw).areas(several.size)
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
    from scipy.spatial import KDTree  # takes half a second, and masks of one part do without

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
    return filled_runs(polygons, size_hw).rles(len(polygons))


def filled_runs(polygons: Sequence[Ints], size_hw: tuple[int, int]) -> ColumnRuns:
    """`fill_pixel_polygons` before encoding."""
    height, width = size_hw
    lengths = np.array([len(polygon) for polygon in polygons], dtype=np.int64)
    ends = np.cumsum(lengths)
    x, y = np.concatenate([np.zeros((0, 2), dtype=np.int64), *polygons]).astype(np.int64).T.copy()
    following = np.arange(1, x.size + 1)
    used = lengths > 0
    following[ends[used] - 1] = (ends - lengths)[used]
    # A position is column x height + row, with the columns of all masks in sequence.
    positions = (np.repeat(np.arange(lengths.size) * width, lengths) + x) * height + y
    way, climb, ahead = x[following] - x, y[following] - y, positions[following]
    upright = np.flatnonzero(way == 0)
    # Nothing else holds the pixel of a corner that has the sides to both its neighbours on its left.
    tips = ahead[(way > 0) & (way[following] < 0)]
    wide, rise, lefts = np.abs(way), np.where(way < 0, -climb, climb), np.minimum(positions, ahead)
    slanting = np.flatnonzero((rise != 0) & (np.abs(rise) != wide) & (way != 0))
    slants = lefts[slanting], wide[slanting], rise[slanting], height
    wide[slanting] = 0
    inside, behind = _interior(_crossings(lefts, wide, height + np.sign(rise)), _crossings_of_slants(*slants))
    drawn = _lines(*slants)
    starts = [inside, lefts[upright], tips, drawn]
    stops = [behind, np.maximum(positions, ahead)[upright] + 1, tips + 1, drawn + 1]
    return union_of_spans(np.concatenate(starts), np.concatenate(stops), size_hw)


def _interior(crossings: Ints, crossings_of_slants: Ints) -> tuple[Ints, Ints]:
    """First positions and positions behind the last of the runs inside polygons, column by column.

    Level, upright and diagonal sides cross columns at pixels, which are inside, too. Where slanting sides do, it is the
    first pixel below.
    """
    keys = sorted_integers(np.concatenate([2 * crossings + 1, 2 * crossings_of_slants]))
    starts, stops = keys[0::2] >> 1, (keys[1::2] + 1) >> 1
    some = stops > starts
    return starts[some], stops[some]


def _crossings(lefts: Ints, wide: Ints, steps: Ints) -> Ints:
    """Positions where sides cross the `wide` columns that begin at their left ends, each one step behind the last."""
    sides = np.repeat(np.arange(wide.size), wide)
    before = np.cumsum(wide) - wide
    positions: Ints = (lefts - before * steps)[sides] + np.arange(sides.size) * steps[sides]
    return positions


def _crossings_of_slants(lefts: Ints, wide: Ints, rise: Ints, height: int) -> Ints:
    """As `_crossings`, of sides that rise by whatever number of rows."""
    along = places_within(wide)
    return np.repeat(lefts, wide) + along * height - (-along * np.repeat(rise, wide) // np.repeat(wide, wide))


def _lines(lefts: Ints, wide: Ints, rise: Ints, height: int) -> Ints:
    """Positions of the pixels of slanting sides."""
    tall = np.abs(rise)
    steep = tall > wide
    major, minor = np.where(steep, tall, wide), np.where(steep, wide, tall)
    count = major + 1
    along = places_within(count)
    major, minor, steep = (np.repeat(values, count) for values in (major, minor, steep))
    aside = (2 * minor * along + major - 1) // (2 * major)
    down = np.repeat(np.sign(rise), count) * np.where(steep, along, aside)
    pixels: Ints = np.repeat(lefts, count) + np.where(steep, aside, along) * height + down
    return pixels
