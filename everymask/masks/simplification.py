"""Rings with fewer corners (Douglas and Peucker, 1973), many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.masks.runs import places_within

Points = NDArray[np.float64]
Places = NDArray[np.int64]


def simplified_rings(rings: Sequence[Points], tolerance_px: float) -> list[Points]:
    """Leave out corners of rings so that none that is left out lies farther than `tolerance_px` from what is kept.

    A ring (K, 2), closed implicitly, is simplified between its first corner and the one farthest from it, so that the
    result does not depend on where it begins. A ring of which fewer than three corners would be left stays as it is.
    """
    return Simplification(rings).within(tolerance_px, range(len(rings)))


class Simplification:
    """Rings that are simplified again, more finely each time.

    A finer tolerance keeps all that a coarser one keeps, so each goes on where the one before ended.
    """

    def __init__(self, rings: Sequence[Points]) -> None:
        self._rings = list(rings)
        lengths = np.array([len(ring) for ring in rings], dtype=np.int64)
        closed = [np.concatenate([ring, ring[:1]]) for ring in rings]
        self._points = np.concatenate([np.zeros((0, 2)), *closed])
        self._firsts: Places = np.cumsum(lengths + 1) - lengths - 1
        self._lasts = self._firsts + lengths
        far = [int(np.abs(ring - ring[0]).sum(axis=1).argmax()) for ring in rings]
        opposite: Places = self._firsts + np.array(far, dtype=np.int64)
        self._keep = np.zeros(len(self._points), dtype=np.bool_)
        self._keep[self._firsts] = self._keep[opposite] = True
        starts, stops = np.concatenate([self._firsts, opposite]), np.concatenate([opposite, self._lasts])
        self._settled = _segments(self._points, starts, stops)

    def within(self, tolerance_px: float, chosen: Sequence[int]) -> list[Points]:
        """The rings of these numbers by `simplified_rings`; only these can be asked for again, with less tolerance."""
        numbers = np.array(chosen, dtype=np.int64)
        asked = np.zeros(len(self._rings), dtype=np.bool_)
        asked[numbers] = True
        open_ = self._settled.of(asked[np.searchsorted(self._firsts, self._settled.starts, side="right") - 1])
        settled = []
        while open_.starts.size:
            fine = open_.distances <= tolerance_px**2
            settled.append(open_.of(fine))
            split = open_.of(~fine)
            self._keep[split.farthest] = True
            starts = np.concatenate([split.starts, split.farthest])
            open_ = _segments(self._points, starts, np.concatenate([split.farthest, split.stops]))
        self._settled = _Segments.joined([open_, *settled])
        simpler = []
        for number in numbers.tolist():
            kept = self._keep[self._firsts[number] : self._lasts[number]]
            simpler.append(self._rings[number][kept] if kept.sum() >= 3 else self._rings[number])
        return simpler


@dataclass(frozen=True)
class _Segments:
    """S pieces of rings from one corner that is kept to the next, with corners between them.

    Attributes:
        starts: (S,) place of the first corner.
        stops: (S,) place of the last.
        farthest: (S,) place of the corner between them that lies farthest from the line that joins them.
        distances: (S,) squared distance of that corner.
    """

    starts: Places
    stops: Places
    farthest: Places
    distances: Points

    def of(self, chosen: NDArray[np.bool_]) -> _Segments:
        return _Segments(self.starts[chosen], self.stops[chosen], self.farthest[chosen], self.distances[chosen])

    @staticmethod
    def joined(parts: Sequence[_Segments]) -> _Segments:
        return _Segments(
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.stops for part in parts]),
            np.concatenate([part.farthest for part in parts]),
            np.concatenate([part.distances for part in parts]),
        )


def _segments(points: Points, starts: Places, stops: Places) -> _Segments:
    """The segments from `starts` to `stops`, without those that have no corner between."""
    some = stops - starts > 1
    starts, stops = starts[some], stops[some]
    inside = stops - starts - 1
    bounds = np.cumsum(inside) - inside
    places = np.repeat(starts + 1, inside) + places_within(inside)
    distances = _distances(points, starts, stops, places, inside)
    if not starts.size:
        return _Segments(starts, stops, starts, distances)
    most = np.maximum.reduceat(distances, bounds)
    # The first of equally far corners.
    behind = np.where(distances == np.repeat(most, inside), places, len(points))
    return _Segments(starts, stops, np.minimum.reduceat(behind, bounds), most)


def _distances(points: Points, starts: Places, stops: Places, places: Places, inside: Places) -> Points:
    """Squared distances of the points at `places`, `inside` of each segment, to the segments."""
    x, y = points.T
    way_x, way_y = np.repeat(x[stops] - x[starts], inside), np.repeat(y[stops] - y[starts], inside)
    from_x, from_y = x[places] - np.repeat(x[starts], inside), y[places] - np.repeat(y[starts], inside)
    along, length = from_x * way_x + from_y * way_y, way_x**2 + way_y**2
    across = from_x * way_y - from_y * way_x
    beside = (along > 0) & (along < length)
    ends = np.minimum(from_x**2 + from_y**2, (from_x - way_x) ** 2 + (from_y - way_y) ** 2)
    squared: Points = np.where(beside, across**2 / np.where(beside, length, 1), ends)
    return squared
