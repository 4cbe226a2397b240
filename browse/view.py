"""Queries over the index and the corrections at one moment."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from browse.layers import BEGUN, CHANGED, CONFLICT, FINISHED, STALE, Corrected, Layer, make_layer, topmost
from browse.query import Query, class_counts, matches, order_keys, shuffled
from browse.segments import Segment

_RESULTS_KEPT = 12
_MOST_RECENT = 400
_FLAGS = {"begun": BEGUN, "finished": FINISHED, "changed": CHANGED, "conflict": CONFLICT, "stale": STALE}


@dataclass(frozen=True)
class Place:
    """An image's place in the index: a segment and a row."""

    segment: Segment
    row: int


class View:
    """Queries over a store's images. Positions count the images of all segments, and stay for the view's life.

    Thread-safe; corrections may be added during queries. `segments` are the index's, lost images last; `splits` are by
    image id.
    """

    def __init__(self, segments: Sequence[Segment], splits: Mapping[str, str]) -> None:
        self._segments = tuple(segments)
        self._starts = np.cumsum([0, *map(len, segments)])
        self._layers: tuple[Layer, ...] = ()
        self._settled: dict[int, Corrected] = {}
        self._recent: dict[int, Corrected] = {}
        self._flags = np.zeros(len(self), dtype=np.uint8)
        self._times = np.zeros(len(self))
        self._lock = threading.RLock()
        self._results: OrderedDict[tuple[Query, int], NDArray[np.int32]] = OrderedDict()
        self._keys: dict[str, NDArray[np.generic]] = {}
        self.split_names, self._splits = _splits(self._segments, splits)
        self.corrections = 0
        self.class_names: dict[int, str] = {}
        for segment in self._segments:
            self.class_names.update(segment.class_names)

    def __len__(self) -> int:
        return int(self._starts[-1])

    # ---- single images ----------------------------------------------------------------------------------------------

    def place(self, position: int) -> Place:
        number = int(np.searchsorted(self._starts, position, side="right")) - 1
        return Place(self._segments[number], position - int(self._starts[number]))

    def correction(self, position: int) -> Corrected | None:
        """An image's correction, or None."""
        return self._recent.get(position) or self._settled.get(position)

    def shown(self, position: int) -> Place:
        """The place of an image's shown labels: in the index, or in a layer of corrections."""
        for layer in reversed(self._layers):
            rows = np.flatnonzero(layer.positions == position)
            if rows.size:
                return Place(layer.segment, int(rows[0]))
        return self.place(position)

    def signature(self, position: int) -> str:
        """A text that changes with an image's labels."""
        shown, correction = self.shown(position), self.correction(position)
        row = shown.segment.table.slice(shown.row, 1)
        words = [row[name].to_pylist() for name in ("content_sha256", "width", "height", "error", "masks")]
        if correction is not None:
            words.append(correction.entry.entry_id)
        return hashlib.sha256(repr(words).encode()).hexdigest()[:24]

    def positions(self, image_ids: Iterable[str]) -> dict[str, int]:
        """The positions of images by id, without unknown ones."""
        wanted = pa.array(list(image_ids), pa.string())
        found: dict[str, int] = {}
        for segment, start in zip(self._segments, self._starts, strict=False):
            hits = pc.is_in(segment.image_ids, value_set=wanted).to_numpy(zero_copy_only=False)
            for row in np.flatnonzero(hits).tolist():
                found.setdefault(segment.image_ids[row].as_py(), int(start) + row)
        return found

    # ---- corrections ------------------------------------------------------------------------------------------------

    def correct(self, images: Iterable[Corrected]) -> None:
        with self._lock:
            for image in images:
                self._recent[image.position] = image
                self._flags[image.position] = image.flags
                self._times[image.position] = image.at
            if len(self._recent) > _MOST_RECENT:
                self._settled |= self._recent
                self._recent = {}
                self._layers = (make_layer(list(self._settled.values())),)
            settled = self._layers[:1] or (make_layer([]),)
            self._layers = (*settled, make_layer(list(self._recent.values())))
            self.corrections += 1

    # ---- queries ----------------------------------------------------------------------------------------------------

    def find(self, query: Query, version: int | None = None) -> tuple[NDArray[np.int32], int]:
        """Positions of a query's images, in order, and the version of that answer.

        `version`, if still known, returns that earlier answer despite newer corrections, so that nobody loses their
        place in a list.
        """
        with self._lock:
            now = self.corrections
            for known in (version, now):
                if known is not None and (query, known) in self._results:
                    self._results.move_to_end((query, known))
                    return self._results[query, known], known
        found = self._find(query)
        with self._lock:
            self._results[query, now] = found
            while len(self._results) > _RESULTS_KEPT:
                self._results.popitem(last=False)
        return found, now

    def _find(self, query: Query) -> NDArray[np.int32]:
        layers, flags = self._layers, self._flags
        parts = [matches(segment, query) for segment in self._segments]
        found = np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)
        for layer in layers:
            found[layer.positions] = matches(layer.segment, query)
        if query.corrected == "no":
            found &= (flags == 0) | ((flags & STALE) != 0)
        elif query.corrected != "any":
            found &= (flags & _FLAGS[query.corrected]) != 0
            if query.corrected != "stale":
                found &= (flags & STALE) == 0
        if query.split:
            number = self.split_names.index(query.split) if query.split in self.split_names else -2
            found &= self._splits == number
        chosen = np.flatnonzero(found).astype(np.int32)
        keys = self._order(query, layers)[chosen]
        return chosen[np.argsort(keys, kind="stable")]

    def _order(self, query: Query, layers: Sequence[Layer]) -> NDArray[np.generic]:
        if query.order == "random":
            return shuffled(len(self))
        if query.order == "latest":
            return -self._times
        if query.order not in self._keys:
            self._keys[query.order] = order_keys(self._segments, query.order)
        keys = self._keys[query.order]
        if query.order == "id" or not layers:
            return keys
        keys = keys.copy()
        for layer in layers:
            keys[layer.positions] = order_keys([layer.segment], query.order)
        return keys

    def classes(self, found: NDArray[np.int32]) -> dict[int | None, int]:
        """Number of masks by class in some images; None stands for entities."""
        most = max(self.class_names, default=-1) + 1
        chosen = np.zeros(len(self), dtype=np.bool_)
        chosen[found] = True
        layers = self._layers
        top = topmost(layers, len(self))
        counts = np.zeros(most + 1, dtype=np.int64)
        for segment, start in zip(self._segments, self._starts, strict=False):
            here = slice(int(start), int(start) + len(segment))
            counts += class_counts(segment, chosen[here] & (top[here] == 0), most)
        for number, layer in enumerate(layers, start=1):
            shown = chosen[layer.positions] & (top[layer.positions] == number)
            counts += class_counts(layer.segment, shown, most)
        by_class: dict[int | None, int] = {key: int(counts[key]) for key in sorted(self.class_names)}
        return by_class | ({None: int(counts[most])} if counts[most] else {})

    def totals(self) -> dict[str, int]:
        """Number of images of each kind, ignoring corrections except for the numbers finished and begun."""
        failed = sum(int(segment.numbers("failed").sum()) for segment in self._segments)
        flags = self._flags
        fresh = (flags & STALE) == 0
        return {
            "images": len(self),
            "errors": failed,
            "masks": sum(len(segment.class_ids) for segment in self._segments),
            "finished": int(np.count_nonzero(fresh & ((flags & FINISHED) != 0))),
            "begun": int(np.count_nonzero(fresh & ((flags & BEGUN) != 0))),
            "conflicts": int(np.count_nonzero((flags & CONFLICT) != 0)),
            "stale": int(np.count_nonzero(~fresh)),
        }


def _splits(segments: Sequence[Segment], splits: Mapping[str, str]) -> tuple[list[str], NDArray[np.int16]]:
    """Names of splits, and (N,) the number of each image's split, -1 for none."""
    names = sorted(set(splits.values()))
    found = np.full(sum(map(len, segments)), -1, dtype=np.int16)
    if not splits:
        return names, found
    known = pa.array(list(splits), pa.string())
    numbers = np.array([names.index(name) for name in splits.values()], dtype=np.int16)
    start = 0
    for segment in segments:
        place = pc.index_in(segment.image_ids, value_set=known).to_numpy(zero_copy_only=False)
        having = ~np.isnan(place)
        found[start : start + len(segment)][having] = numbers[place[having].astype(np.int64)]
        start += len(segment)
    return names, found
