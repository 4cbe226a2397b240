"""Rings with fewer corners (Douglas and Peucker, 1973), many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Line = NDArray[np.float64]
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
        self._x, self._y = np.concatenate([np.zeros((0, 2)), *closed]).T.copy()
        self._firsts: Places = np.cumsum(lengths + 1) - lengths - 1
        self._lasts = self._firsts + lengths
        far = [int(np.abs(ring - ring[0]).sum(axis=1).argmax()) for ring in rings]
        opposite: Places = self._firsts + np.array(far, dtype=np.int64)
        self._keep = np.zeros(self._x.size, dtype=np.bool_)
        self._keep[self._firsts] = self._keep[opposite] = True
        starts, stops = np.concatenate([self._firsts, opposite]), np.concatenate([opposite, self._lasts])
        self._settled = _segments(self._x, self._y, starts, stops)

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
            open_ = _segments(self._x, self._y, starts, np.concatenate([split.farthest, split.stops]))
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
    distances: Line

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


def _segments(x: Line, y: Line, starts: Places, stops: Places) -> _Segments:
    """The segments from `starts` to `stops`, without those that have no corner between."""
    some = np.flatnonzero(stops - starts > 1)
    starts, stops = starts[some], stops[some]
    inside = stops - starts - 1
    bounds = inside.cumsum() - inside
    # Taking from so small arrays by index is several times faster than repeating their items.
    of = np.arange(starts.size).repeat(inside)
    places = np.arange(of.size) + (starts + 1 - bounds)[of]
    distances = _distances(x, y, starts, stops, places, of)
    if not starts.size:
        return _Segments(starts, stops, starts, distances)
    most = np.maximum.reduceat(distances, bounds)
    # The first of equally far corners.
    farthest = np.flatnonzero(distances == most[of])
    return _Segments(starts, stops, places[farthest[np.searchsorted(farthest, bounds)]], most)


def _distances(x: Line, y: Line, starts: Places, stops: Places, places: Places, of: Places) -> Line:
    """Squared distances of the points at `places` to the segments `of` which they are."""
    from_x, from_y = x[places] - x[starts][of], y[places] - y[starts][of]
    way_x, way_y = x[stops] - x[starts], y[stops] - y[starts]
    length = way_x**2 + way_y**2
    divisor = np.where(length > 0, length, 1)[of]
    way_x, way_y, length = way_x[of], way_y[of], length[of]
    along, across = from_x * way_x + from_y * way_y, from_x * way_y - from_y * way_x
    squared: Line = across**2 / divisor
    beyond = np.flatnonzero((along <= 0) | (along >= length))
    from_x, from_y, way_x, way_y = from_x[beyond], from_y[beyond], way_x[beyond], way_y[beyond]
    squared[beyond] = np.minimum(from_x**2 + from_y**2, (from_x - way_x) ** 2 + (from_y - way_y) ** 2)
    return squared
