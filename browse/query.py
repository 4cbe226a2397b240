"""Which images are shown, in which order: filters and orders over segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from browse.segments import Segment
from everymask.errors import ConfigurationError
from everymask.records import LabelledMask

Show = Literal["all", "masks", "empty", "errors"]
Corrected = Literal["any", "no", "begun", "finished", "changed", "conflict", "stale"]
Order = Literal["doubt", "id", "most-masks", "fewest-masks", "lowest-score", "coverage", "latest", "random"]

_IMAGES_AT_A_TIME = 65_536
_RANDOM_TURN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, both included; None for an open end."""

    least: float | None = None
    most: float | None = None

    def holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of some numbers lie in it, compared in the precision that they have."""
        # Whole numbers are compared with the ends as they are; an end that no float of 32 bits reaches is infinite.
        kind = float if values.dtype.kind in "iu" else values.dtype.type
        inside = np.ones(values.shape, dtype=np.bool_)
        with np.errstate(over="ignore"):
            if self.least is not None:
                inside &= values >= kind(self.least)
            if self.most is not None:
                inside &= values <= kind(self.most)
        return inside

    @property
    def is_open(self) -> bool:
        """Whether it has no ends."""
        return self.least is None and self.most is None


@dataclass(frozen=True)
class Query:
    """A query. Conditions on masks select images with at least one mask that meets all of them.

    Attributes:
        show: images with masks, without any, or with an error in place of labels.
        corrected: what people did to them.
        text: part of the image id, ignoring case.
        split: name of a split.
        classes: class ids, one of which a mask must have.
        score: of a mask.
        area: of a mask, as a share of the image.
        doubt: of the image.
        masks: number of masks.
        order: what comes first.
    """

    show: Show = "all"
    corrected: Corrected = "any"
    text: str = ""
    split: str = ""
    classes: tuple[int, ...] = ()
    score: Range = field(default_factory=Range)
    area: Range = field(default_factory=Range)
    doubt: Range = field(default_factory=Range)
    masks: Range = field(default_factory=Range)
    order: Order = "doubt"

    def __post_init__(self) -> None:
        for name, kind in (("show", Show), ("corrected", Corrected), ("order", Order)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}, not one of {', '.join(get_args(kind))}")

    @property
    def of_masks(self) -> bool:
        return bool(self.classes) or not (self.score.is_open and self.area.is_open)


def matching_masks(segment: Segment, query: Query, start: int, stop: int) -> NDArray[np.bool_]:
    """Which of a segment's masks `start` to `stop` meet the conditions on masks."""
    chosen = np.ones(stop - start, dtype=np.bool_)
    if query.classes:
        chosen &= np.isin(segment.class_ids[start:stop], np.array(query.classes, dtype=np.int32))
    for condition, values in ((query.score, segment.scores), (query.area, segment.areas)):
        if not condition.is_open:
            chosen &= condition.holds(values[start:stop])
    return chosen


def fulfils(mask: LabelledMask, query: Query) -> bool:
    """`matching_masks` for one mask."""
    share = mask.area / (mask.rle["size"][0] * mask.rle["size"][1])
    numbers = np.array([mask.score, share], dtype=np.float32)
    return (not query.classes or mask.class_id in query.classes) and bool(
        query.score.holds(numbers[:1])[0] and query.area.holds(numbers[1:])[0]
    )


def matches(segment: Segment, query: Query) -> NDArray[np.bool_]:
    """(N,) which images meet the query's conditions, except `corrected` and `split`."""
    found = np.ones(len(segment), dtype=np.bool_)
    counts = np.diff(segment.bounds)
    failed = segment.numbers("failed").astype(np.bool_)
    if query.show == "errors":
        found &= failed
    elif query.show == "masks":
        found &= counts > 0
    elif query.show == "empty":
        found &= (counts == 0) & ~failed
    found &= query.masks.holds(counts)
    found &= query.doubt.holds(segment.numbers("doubt"))
    if query.text:
        hits = pc.match_substring(segment.image_ids, query.text, ignore_case=True)
        found &= hits.to_numpy(zero_copy_only=False)
    if query.of_masks:
        for first in range(0, len(segment), _IMAGES_AT_A_TIME):
            bounds = segment.bounds[first : first + _IMAGES_AT_A_TIME + 1]
            hits = np.flatnonzero(matching_masks(segment, query, int(bounds[0]), int(bounds[-1]))) + bounds[0]
            found[first : first + len(bounds) - 1] &= np.diff(np.searchsorted(hits, bounds)) > 0
    return found


def class_counts(segment: Segment, chosen: NDArray[np.bool_], classes: int) -> NDArray[np.int64]:
    """(classes + 1,) number of the chosen images' masks by class; the last one is of entities."""
    found = np.zeros(classes + 1, dtype=np.int64)
    for first in range(0, len(segment), _IMAGES_AT_A_TIME):
        bounds = segment.bounds[first : first + _IMAGES_AT_A_TIME + 1]
        kept = np.repeat(chosen[first : first + len(bounds) - 1], np.diff(bounds))
        ids = segment.class_ids[bounds[0] : bounds[-1]][kept]
        found += np.bincount(np.where((ids < 0) | (ids >= classes), classes, ids), minlength=classes + 1)
    return found


def order_keys(segments: Sequence[Segment], order: Order) -> NDArray[np.generic]:
    """(N,) sort keys of all segments' images, smallest first, for every order but `latest`."""
    if order == "id":
        return _ranks(segments)
    keys = [_keys(segment, order) for segment in segments]
    return np.concatenate(keys) if keys else np.zeros(0, dtype=np.float32)


def _keys(segment: Segment, order: Order) -> NDArray[np.generic]:
    match order:
        case "most-masks":
            return -np.diff(segment.bounds)
        case "fewest-masks":
            return np.diff(segment.bounds)
        case "lowest-score":
            return segment.numbers("lowest")
        case "coverage":
            return segment.numbers("coverage")
        case _:
            return -segment.numbers("doubt")


def _ranks(segments: Sequence[Segment]) -> NDArray[np.generic]:
    ids = pa.chunked_array([segment.image_ids for segment in segments], pa.string())
    ranks = np.empty(len(ids), dtype=np.int32)
    ranks[pc.sort_indices(ids).to_numpy()] = np.arange(len(ids), dtype=np.int32)
    return ranks


def shuffled(count: int) -> NDArray[np.uint64]:
    """(count,) numbers in an order that looks random, and is always the same."""
    numbers = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * _RANDOM_TURN
    numbers ^= numbers >> np.uint64(29)
    mixed: NDArray[np.uint64] = numbers * np.uint64(0xBF58476D1CE4E5B9)
    return mixed
