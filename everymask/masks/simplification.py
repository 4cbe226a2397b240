"""Rings with fewer corners (Douglas and Peucker, 1973), many at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.masks.runs import places_within

Points = NDArray[np.float64]


def simplified_rings(rings: Sequence[Points], tolerance_px: float) -> list[Points]:
    """Leave out corners of rings so that none that is left out lies farther than `tolerance_px` from what is kept.

    A ring (K, 2), closed implicitly, is simplified between its first corner and the one farthest from it, so that the
    result does not depend on where it begins. A ring of which fewer than three corners would be left stays as it is.
    """
    if not rings:
        return []
    lengths = np.array([len(ring) for ring in rings])
    closed = np.concatenate([np.concatenate([ring, ring[:1]]) for ring in rings]).astype(np.float64)
    firsts = np.cumsum(lengths + 1) - lengths - 1
    far = firsts + [int(np.abs(ring - ring[0]).sum(axis=1).argmax()) for ring in rings]
    keep = np.zeros(len(closed), dtype=np.bool_)
    keep[firsts] = keep[far] = True
    starts, stops = np.concatenate([firsts, far]), np.concatenate([far, firsts + lengths])
    while (open_ := stops - starts > 1).any():
        starts, stops = starts[open_], stops[open_]
        distances, bounds, places = _distances(closed, starts, stops)
        farthest = np.maximum.reduceat(distances, bounds)
        of = np.repeat(np.arange(len(starts)), stops - starts - 1)
        candidates = np.flatnonzero((distances == farthest[of]) & (distances > tolerance_px**2))
        split, first = np.unique(of[candidates], return_index=True)
        middles = places[candidates[first]]
        keep[middles] = True
        starts, stops = np.concatenate([starts[split], middles]), np.concatenate([middles, stops[split]])
    kept = [keep[first : first + length] for first, length in zip(firsts.tolist(), lengths.tolist(), strict=True)]
    return [ring[chosen] if chosen.sum() >= 3 else ring for ring, chosen in zip(rings, kept, strict=True)]


def _distances(
    points: Points, starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[Points, NDArray[np.int64], NDArray[np.int64]]:
    """Squared distances of the points between `starts` and `stops` to the segments that join these.

    Returns them segment by segment, each segment's first place in that array, and the places of the points.
    """
    inside = stops - starts - 1
    places = np.repeat(starts + 1, inside) + places_within(inside)
    x, y = points.T
    way_x, way_y = np.repeat(x[stops] - x[starts], inside), np.repeat(y[stops] - y[starts], inside)
    from_x, from_y = x[places] - np.repeat(x[starts], inside), y[places] - np.repeat(y[starts], inside)
    along, length = from_x * way_x + from_y * way_y, way_x**2 + way_y**2
    across = from_x * way_y - from_y * way_x
    beside = (along > 0) & (along < length)
    ends = np.minimum(from_x**2 + from_y**2, (from_x - way_x) ** 2 + (from_y - way_y) ** 2)
    distances = np.where(beside, across**2 / np.where(beside, length, 1), ends)
    return distances, np.cumsum(inside) - inside, places
