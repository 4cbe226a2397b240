"""Run lengths of masks: COCO's text as numbers, and the row-major runs that other formats use."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.masks.sorting import sorted_integers
from everymask.records import Rle

_LARGEST = np.int64(1) << np.arange(4, 60, 5)
"""The numbers from which one more 5-bit digit, sign included, is needed."""


def rle_runs(rle: Rle) -> NDArray[np.int64]:
    """(K,) run lengths of an encoding in column-major order, alternately background and foreground."""
    return runs_of_rles([rle])[0]


def runs_of_rles(rles: Sequence[Rle]) -> list[NDArray[np.int64]]:
    """`rle_runs` for each of many encodings."""
    values, bounds = concatenated_runs(rles)
    return np.split(values, bounds[1:-1]) if rles else []


def concatenated_runs(rles: Sequence[Rle]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`rle_runs` of N encodings in one array, and the (N + 1,) bounds of each, in one pass over their text.

    COCO's text has 5 bits a character, the sixth for "goes on"; each number from the fourth on is a difference from the
    last but one (`rleToString` in cocoapi's maskApi.c).
    """
    texts = [rle["counts"] for rle in rles]
    characters = np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8) - np.uint8(48)
    if characters.size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(len(texts) + 1, dtype=np.int64)
    ends = np.flatnonzero(characters < 0x20)
    starts = np.concatenate([[0], ends[:-1] + 1])
    values = (characters[starts] & 0x1F).astype(np.int64)
    longer = np.flatnonzero(ends > starts)
    place = 0
    while longer.size:
        place += 1
        values[longer] |= (characters[starts[longer] + place] & 0x1F).astype(np.int64) << (5 * place)
        longer = longer[ends[longer] > starts[longer] + place]
    negative = np.flatnonzero(characters[ends] & 0x10)
    values[negative] -= np.int64(1) << (5 * (ends - starts + 1)[negative])
    # The first number of each encoding, and the number behind its last.
    bounds = np.searchsorted(starts, np.cumsum([0, *map(len, texts)]))
    return undo_differences(values, bounds[:-1], np.diff(bounds)), bounds


def undo_differences(
    numbers: NDArray[np.int64], first: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Run lengths from the numbers of N texts: each from the fourth on is a difference from the last but one.

    `numbers` (K,) are all texts in sequence; `first` (N,) and `lengths` (N,) are where each text begins and its count.
    """
    heads = first[lengths > 0]
    chained = numbers.copy()
    chained[heads] = 0  # the first run starts no chain
    runs = np.empty_like(numbers)
    for parity in (0, 1):
        sums = np.cumsum(chained[parity::2])
        # Of each text what lies before it is taken away.
        begins = (first + 1 - parity) // 2
        before = np.concatenate([[0], sums])[begins]
        runs[parity::2] = sums - np.repeat(before, np.diff(begins, append=sums.size))
    runs[heads] = numbers[heads]
    return runs


def places_within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, …, length - 1 for each of (N,) lengths, in sequence."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - lengths, lengths)


def rle_from_runs(runs: NDArray[np.int64] | list[int], size_hw: tuple[int, int]) -> Rle:
    """Encode (K,) column-major run lengths, background first.

    Raises:
        ValueError: they do not sum to the image's pixels, or one is negative.
    """
    return rles_from_runs([np.asarray(runs, dtype=np.int64)], size_hw)[0]


def rles_from_runs(runs: Sequence[NDArray[np.int64]], size_hw: tuple[int, int]) -> list[Rle]:
    """`rle_from_runs` for many masks of one image, in one pass; pycocotools is several times slower. Same errors."""
    return _encoded(np.concatenate([*runs, np.zeros(0, dtype=np.int64)]), np.cumsum([0, *map(len, runs)]), size_hw)


def _encoded(counts: NDArray[np.int64], bounds: NDArray[np.int64], size_hw: tuple[int, int]) -> list[Rle]:
    """Encode the runs of masks in sequence, with the (N + 1,) bounds of each."""
    if bounds.size < 2:
        return []
    height, width = size_hw
    pixels = height * width
    # The sums wrap only where a number is out of range by itself.
    sums = np.diff(np.concatenate([[0], np.cumsum(counts)])[bounds])
    wrong = sums != pixels
    if counts.min(initial=0) < 0 or counts.max(initial=0) > pixels or wrong.any():
        total = int(sums[wrong][0]) if wrong.any() else pixels
        raise ValueError(f"runs of {total} pixels do not make a mask of {width} x {height}")
    numbers = counts.copy()
    numbers[2:] -= counts[:-2]
    # The first three of each mask are no differences.
    plain = np.minimum(bounds[:-1, None] + np.arange(3), bounds[1:, None] - 1)
    numbers[plain] = counts[plain]
    # A number has as many characters as 5-bit digits are needed for it in two's complement, sign included.
    sizes = numbers ^ (numbers >> 63)
    lengths = np.ones(numbers.size, dtype=np.int64)
    longer = np.flatnonzero(sizes >= _LARGEST[0])
    for largest in _LARGEST[1:]:
        lengths[longer] += 1
        longer = longer[sizes[longer] >= largest]
    ends = np.cumsum(lengths)
    first = ends - lengths
    characters = np.empty(int(ends[-1]), dtype=np.uint8)
    characters[first] = numbers & 0x1F
    longer = np.flatnonzero(lengths > 1)
    place = 0
    while longer.size:
        characters[first[longer] + place] |= 0x20
        place += 1
        characters[first[longer] + place] = (numbers[longer] >> (5 * place)) & 0x1F
        longer = longer[lengths[longer] > place + 1]
    text = (characters + np.uint8(48)).tobytes().decode("ascii")
    cuts = np.concatenate([[0], ends])[bounds].tolist()
    return [Rle(size=[height, width], counts=text[first:last]) for first, last in itertools.pairwise(cuts)]


def spans_of_rles(rles: Sequence[Rle]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pixel spans of N masks of one size, ascending within each mask; no two of one mask touch.

    Returns:
        starts: (S,) first pixels in column-major order, offset by i images for mask i.
        stops: (S,) pixels behind the last.
        owners: (S,) the mask of each.
    """
    return spans_of_runs(*concatenated_runs(rles))


def spans_of_runs(
    runs: NDArray[np.int64], bounds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """As `spans_of_rles`, from run lengths and the (N + 1,) bounds of each mask."""
    lengths = np.diff(bounds)
    owners = np.repeat(np.arange(lengths.size), lengths)
    edges = np.concatenate([[0], np.cumsum(runs)])
    inside = ((places_within(lengths) & 1) == 1) & (runs > 0)
    starts, stops, owners = edges[:-1][inside], edges[1:][inside], owners[inside]
    # There may be a background run of no length: its neighbours are one span.
    joined = np.flatnonzero((starts[1:] == stops[:-1]) & (owners[1:] == owners[:-1]))
    if joined.size:
        starts, owners = np.delete(starts, joined + 1), np.delete(owners, joined + 1)
        stops = np.delete(stops, joined)
    return starts, stops, owners


def ious_of_spans(
    first: tuple[NDArray[np.int64], NDArray[np.int64]],
    second: tuple[NDArray[np.int64], NDArray[np.int64]],
    pixels: int,
    num_masks: int,
) -> NDArray[np.float64]:
    """(N,) IoU in [0, 1] of N pairs of masks; 0 where both are empty.

    Each side is the first pixels of its spans and those behind the last, offset by i x `pixels` for pair i.
    """
    edges = sorted_integers(np.concatenate([*first, *second]))
    # Between one edge and the next lie, in turn, pixels that one mask alone has and pixels that both have or none.
    begins, lengths = edges[0::2], edges[1::2] - edges[0::2]
    # Where two masks that reach their image's end are alike, nothing begins there.
    owners = np.minimum(begins // pixels, num_masks - 1)
    apart = np.bincount(owners, weights=lengths, minlength=num_masks)
    both = sum(
        np.bincount(starts // pixels, weights=stops - starts, minlength=num_masks) for starts, stops in (first, second)
    )
    ious: NDArray[np.float64] = (both - apart) / np.maximum(both + apart, 1)
    return ious


def runs_from_spans(
    starts: NDArray[np.int64], stops: NDArray[np.int64], bounds: NDArray[np.int64], pixels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Run lengths of N masks in sequence, background first, and the (N + 1,) bounds of each.

    Args:
        starts: (S,) first pixels of spans, ascending within a mask; no two touch.
        stops: (S,) pixels behind the last.
        bounds: (N + 1,) index of each mask's first span, then S.
        pixels: (N,) pixels of each mask's image.
    """
    some = bounds[1:] > bounds[:-1]
    before = np.concatenate([[0], stops])
    lasts = np.where(some, before[bounds[1:]], 0)
    before[bounds[:-1]] = 0  # nothing comes before a mask's first span
    # Of each mask its runs, two for a span, and the background behind them, which is left out where there is none.
    place = np.arange(starts.size) * 2 + np.repeat(np.arange(some.size), np.diff(bounds))
    runs = np.empty(2 * starts.size + some.size, dtype=np.int64)
    runs[place] = starts - before[:-1]
    runs[place + 1] = stops - starts
    tails = 2 * bounds[1:] + np.arange(some.size)
    runs[tails] = pixels - lasts
    full = some & (lasts == pixels)
    return np.delete(runs, tails[full]), 2 * bounds + np.concatenate([[0], np.cumsum(~full)])


def rles_from_spans(
    starts: NDArray[np.int64], stops: NDArray[np.int64], bounds: NDArray[np.int64], size_hw: tuple[int, int]
) -> list[Rle]:
    """Encodings of N masks of one size from column-major pixel spans, as for `runs_from_spans`."""
    pixels = np.full(bounds.size - 1, size_hw[0] * size_hw[1])
    return _encoded(*runs_from_spans(starts, stops, bounds, pixels), size_hw)


def crop_of(rle: Rle, box_xyxy: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """(y1 - y0, x1 - x0) bool: an encoded mask's pixels inside a half-open box; other columns are not decoded."""
    return crops_of([rle], [box_xyxy])[0]


def crops_of(rles: Sequence[Rle], boxes_xyxy: Sequence[tuple[int, int, int, int]]) -> list[NDArray[np.bool_]]:
    """`crop_of` for many encodings, each with its box, in one pass over their text."""
    crops = []
    for rle, runs, (x0, y0, x1, y1) in zip(rles, runs_of_rles(rles), boxes_xyxy, strict=True):
        height = rle["size"][0]
        columns = pixels_between(runs, x0 * height, x1 * height).reshape(x1 - x0, height)
        crops.append(np.ascontiguousarray(columns[:, y0:y1].T))
    return crops


def pixels_at(rle: Rle, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(R, C) bool: an encoded mask's pixels where `rows` and `columns` cross, without decoding the rest."""
    places = columns * rle["size"][0] + rows[:, None]
    inside: NDArray[np.bool_] = np.searchsorted(np.cumsum(rle_runs(rle)), places, side="right") % 2 == 1
    return inside


def pixels_between(runs: NDArray[np.int64], start: int, stop: int) -> NDArray[np.bool_]:
    """(stop - start,) bool: pixels `start` to `stop` of runs that alternate, background first."""
    lengths = np.diff(np.cumsum(runs).clip(start, stop), prepend=start)
    return np.repeat(np.arange(lengths.size) % 2 == 1, lengths)


def rle_from_crop(crop: NDArray[np.bool_], corner_xy: tuple[int, int], size_hw: tuple[int, int]) -> Rle:
    """Encode an image of `size_hw` that holds `crop` at `corner_xy` and is empty elsewhere.

    Raises:
        ValueError: the crop reaches beyond the image.
    """
    (x0, y0), (height, width) = corner_xy, size_hw
    rows, columns = crop.shape
    if min(x0, y0) < 0 or x0 + columns > width or y0 + rows > height:
        raise ValueError(f"a crop of {columns} x {rows} at ({x0}, {y0}) reaches beyond an image of {width} x {height}")
    return rle_from_runs(_runs_of_lines(crop.T, x0, y0, (width, height)), size_hw)


def row_major_runs(crop: NDArray[np.bool_], corner_xy: tuple[int, int], size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """As `rle_from_crop`, but (K,) row-major run lengths, background first."""
    return _runs_of_lines(crop, corner_xy[1], corner_xy[0], size_hw)


def _runs_of_lines(lines: NDArray[np.bool_], first_line: int, offset: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Run lengths of an image of `shape` = (lines, pixels a line) that is empty but for `lines`, background first.

    `lines` (n, m) are consecutive from `first_line` and start at pixel `offset`. The last run is never 0, unless it is
    the only one.
    """
    count, length = lines.shape
    whole = np.zeros((count, shape[1]), dtype=np.bool_)
    whole[:, offset : offset + length] = lines
    flat = whole.reshape(-1)
    before, total = first_line * shape[1], shape[0] * shape[1]
    bounds = [np.flatnonzero(flat[1:] != flat[:-1]) + 1 + before]
    if flat.size and flat[0]:
        bounds.insert(0, np.array([before]))
    if flat.size and flat[-1]:
        bounds.append(np.array([before + flat.size]))
    runs = np.diff(np.concatenate([*bounds, [total]]), prepend=0)
    return runs[:-1] if runs.size > 1 and runs[-1] == 0 else runs
