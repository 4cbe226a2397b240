"""All masks of an image as vertical runs of pixels, for tracing outlines and for row-major formats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.masks.runs import (
    ious_of_spans,
    places_within,
    rles_from_spans,
    runs_from_spans,
    spans_of_rles,
    spans_of_runs,
)
from everymask.masks.sorting import sorted_integers
from everymask.records import Rle

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ColumnRuns:
    """Unbroken vertical runs of pixels of N masks of one size, sorted by mask, column and row; no two touch.

    Attributes:
        size_hw: (height, width) of the masks.
        lines: (R,) mask x width + column.
        tops: (R,) first row.
        bottoms: (R,) row behind the last.
    """

    size_hw: tuple[int, int]
    lines: Ints
    tops: Ints
    bottoms: Ints

    @classmethod
    def of_rles(cls, rles: Sequence[Rle], size_hw: tuple[int, int]) -> ColumnRuns:
        """The runs of encodings that all have `size_hw`."""
        starts, stops, _ = spans_of_rles(rles)
        return cls(size_hw, *_cut(starts, stops, np.full(starts.size, size_hw[0]))[:3])

    @classmethod
    def of_mask(cls, mask: NDArray[np.bool_]) -> ColumnRuns:
        """The runs of one (H, W) mask."""
        height, width = mask.shape
        padded = np.zeros((width, height + 1), dtype=np.int8)
        padded[:, :height] = mask.T
        edges = np.flatnonzero(np.diff(padded.reshape(-1), prepend=np.int8(0)))
        starts, ends = edges[0::2], edges[1::2]
        lines = starts // (height + 1)
        return cls((height, width), lines, starts - lines * (height + 1), ends - lines * (height + 1))

    @classmethod
    def of_boxes(cls, runs: Ints, bounds: Ints, boxes_xyxy: Ints, size_hw: tuple[int, int]) -> ColumnRuns:
        """The runs of N masks given inside boxes, in the form that `in_boxes` returns."""
        x0, y0, x1, y1 = boxes_xyxy.T
        areas = (x1 - x0) * (y1 - y0)
        starts, stops, owners = spans_of_runs(runs, bounds)
        before = (np.cumsum(areas) - areas)[owners]
        heights = (y1 - y0)[owners]
        columns, tops, bottoms, number = _cut(starts - before, stops - before, heights)
        owners = np.repeat(owners, number)
        lines = owners * size_hw[1] + x0[owners] + columns
        return cls(size_hw, lines, tops + y0[owners], bottoms + y0[owners])

    def in_boxes(self, boxes_xyxy: Ints) -> tuple[Ints, Ints]:
        """Run lengths of each mask inside its (N, 4) half-open box, column by column, background first.

        Returns the runs of all masks in one array and the (N + 1,) bounds of each mask's part.
        """
        x0, y0, x1, y1 = boxes_xyxy.T
        owners, columns = np.divmod(self.lines, self.size_hw[1])
        heads = (columns - x0[owners]) * (y1 - y0)[owners] - y0[owners]
        starts, stops, owners = _joined(heads + self.tops, heads + self.bottoms, owners)
        bounds = np.searchsorted(owners, np.arange(len(boxes_xyxy) + 1))
        return runs_from_spans(starts, stops, bounds, (x1 - x0) * (y1 - y0))

    def transposed(self) -> ColumnRuns:
        """The masks with rows and columns exchanged."""
        height, width = self.size_hw
        lines = self.lines + self.lines // width  # there is one line between columns more than there are columns
        ends = np.concatenate([lines * (height + 1) + self.tops, lines * (height + 1) + self.bottoms])
        keys = np.concatenate([ends, ends + height + 1])
        keys.sort(kind="stable")  # four sorted quarters, which it merges
        # Where runs of neighbouring columns end alike, nothing changes from one to the other.
        alike = np.flatnonzero(keys[1:] == keys[:-1])
        keep = np.ones(keys.size, dtype=np.bool_)
        keep[alike] = keep[alike + 1] = False
        keys = keys[keep]
        starts, lengths = keys[0::2], keys[1::2] - keys[0::2]
        lines, tops = np.divmod(starts, height + 1)
        masks, x = np.divmod(lines, width + 1)
        rows = np.repeat(masks * height + tops, lengths) + places_within(lengths)
        changes = sorted_integers(rows * (width + 1) + np.repeat(x, lengths))
        rows, first = np.divmod(changes[0::2], width + 1)
        return ColumnRuns((width, height), rows, first, changes[1::2] - rows * (width + 1))

    def rles(self, num_masks: int) -> list[Rle]:
        height, width = self.size_hw
        owners, columns = np.divmod(self.lines, width)
        starts, stops, owners = _joined(columns * height + self.tops, columns * height + self.bottoms, owners)
        return rles_from_spans(starts, stops, np.searchsorted(owners, np.arange(num_masks + 1)), self.size_hw)

    def rles_of_copies(self, stored: ColumnRuns, rles: Sequence[Rle]) -> list[Rle]:
        """As `rles`, but a mask that has the same runs in `stored` has its encoding in `rles`, N masks of this size.

        Comparing is several times faster than encoding.
        """
        mine, theirs = np.stack(self._spans()), np.stack(stored._spans())
        if np.array_equal(mine, theirs):
            return list(rles)
        found = list(rles)
        edges = np.arange(1, len(rles)) * math.prod(self.size_hw)
        pairs = zip(*(np.split(one, np.searchsorted(one[0], edges), axis=1) for one in (mine, theirs)), strict=True)
        changed = np.array([number for number, pair in enumerate(pairs) if not np.array_equal(*pair)])
        for number, rle in zip(changed, self.of(changed).rles(changed.size), strict=True):
            found[number] = rle
        return found

    def of(self, masks: Ints) -> ColumnRuns:
        """The masks of these (M,) ascending numbers."""
        width = self.size_hw[1]
        owners = self.lines // width
        kept = np.flatnonzero(np.isin(owners, masks))
        owners = owners[kept]
        lines = self.lines[kept] + (np.searchsorted(masks, owners) - owners) * width
        return ColumnRuns(self.size_hw, lines, self.tops[kept], self.bottoms[kept])

    def areas(self, num_masks: int) -> Ints:
        """(N,) pixels in each mask."""
        owners = self.lines // self.size_hw[1]
        return np.bincount(owners, weights=self.bottoms - self.tops, minlength=num_masks).astype(np.int64)

    def ious(self, other: ColumnRuns, num_masks: int) -> NDArray[np.float64]:
        """(N,) IoU in [0, 1] of each mask with the same one of `other`; 0 where both are empty."""
        return ious_of_spans(self._spans(), other._spans(), math.prod(self.size_hw), num_masks)

    def _spans(self) -> tuple[Ints, Ints]:
        """(R,) first positions of runs and those behind the last, column after column of all masks."""
        heads = self.lines * self.size_hw[0]
        return heads + self.tops, heads + self.bottoms


def _cut(starts: Ints, stops: Ints, heights: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Split spans at column ends: columns, first rows, rows behind the last, and the number of pieces of each span."""
    first, last = starts // heights, (stops - 1) // heights
    pieces = last - first + 1
    columns = np.repeat(first, pieces) + places_within(pieces)
    heights = np.repeat(heights, pieces)
    heads = columns * heights
    tops = np.maximum(np.repeat(starts, pieces) - heads, 0)
    bottoms = np.minimum(np.repeat(stops, pieces) - heads, heights)
    return columns, tops, bottoms, pieces


def _joined(starts: Ints, stops: Ints, owners: Ints) -> tuple[Ints, Ints, Ints]:
    """Merge spans of the same mask that touch."""
    apart = (starts[1:] != stops[:-1]) | (owners[1:] != owners[:-1])
    if not starts.size or apart.all():
        return starts, stops, owners
    begins, ends = np.concatenate([[True], apart]), np.concatenate([apart, [True]])
    return starts[begins], stops[ends], owners[begins]


def union_of_spans(starts: Ints, stops: Ints, size_hw: tuple[int, int]) -> ColumnRuns:
    """The union of (S,) spans in any order, offset by i images for mask i; no span leaves its column or is empty."""
    height, _ = size_hw
    starts, stops = sorted_integers(starts), sorted_integers(stops)
    # As many spans end as have begun wherever the union has a gap. Spans that touch join, but not across columns.
    gaps = (starts[1:] > stops[:-1]) | ((starts[1:] == stops[:-1]) & (starts[1:] % height == 0))
    ends = np.ones(starts.size, dtype=np.bool_)
    ends[:-1] = gaps
    starts, stops = starts[np.roll(ends, 1)], stops[ends]
    lines = starts // height
    return ColumnRuns(size_hw, lines, starts - lines * height, stops - lines * height)
