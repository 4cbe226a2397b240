"""Run lengths of masks: COCO's text as numbers, and runs in the row-major order that other formats use."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.records import Rle

_LARGEST = np.int64(1) << np.arange(4, 60, 5)
"""From here on a number needs one 5-bit digit more, its sign included."""


def rle_runs(rle: Rle) -> NDArray[np.int64]:
    """(K,) run lengths of an encoding in column-major order, alternately background and foreground."""
    return runs_of_rles([rle])[0]


def runs_of_rles(rles: Sequence[Rle]) -> list[NDArray[np.int64]]:
    """`rle_runs` of each of some encodings."""
    values, bounds = concatenated_runs(rles)
    return np.split(values, bounds[1:-1]) if rles else []


def concatenated_runs(rles: Sequence[Rle]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`rle_runs` of N encodings one after the other, and the (N + 1,) bounds of each, in one pass over all their text.

    COCO's text has 5 bits in each character, bit 6 for "goes on", and every number from the fourth on as its difference
    from the last but one (`rleToString` of cocoapi's maskApi.c).
    """
    texts = [rle["counts"] for rle in rles]
    characters = np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    if characters.size == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(len(texts) + 1, dtype=np.int64)
    ends = np.flatnonzero((characters & 0x20) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    place = np.arange(characters.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((characters & 0x1F) << (5 * place), starts)
    negative = (characters[ends] & 0x10) != 0
    values -= negative.astype(np.int64) << (5 * lengths)
    # The first number of each encoding, and the number behind its last.
    bounds = np.searchsorted(starts, np.cumsum([0, *map(len, texts)]))
    number = np.arange(values.size) - np.repeat(bounds[:-1], np.diff(bounds))
    for parity in (0, 1):
        chosen = (number % 2 == parity) & (number > 0)
        sums = np.concatenate([[0], np.cumsum(np.where(chosen, values, 0))])
        before = np.repeat(sums[bounds[:-1]], np.diff(bounds))
        values = np.where(chosen, sums[1:] - before, values)
    return values, bounds


def rle_from_runs(runs: NDArray[np.int64] | list[int], size_hw: tuple[int, int]) -> Rle:
    """The encoding of (K,) column-major run lengths, alternately background and foreground.

    Raises:
        ValueError: they do not add up to the pixels of the image, or one is negative.
    """
    return rles_from_runs([np.asarray(runs, dtype=np.int64)], size_hw)[0]


def rles_from_runs(runs: Sequence[NDArray[np.int64]], size_hw: tuple[int, int]) -> list[Rle]:
    """`rle_from_runs` of the runs of each of some masks of one image, in one pass over all of them.

    Pycocotools takes its numbers as a Python list, which is several times slower.

    Raises:
        ValueError: some do not add up to the pixels of the image, or one is negative.
    """
    height, width = size_hw
    pixels = height * width
    for counts in runs:
        # One by one, too: sums of numbers near 2^63 wrap.
        if counts.min(initial=0) < 0 or counts.max(initial=0) > pixels or counts.sum() != pixels:
            raise ValueError(f"runs of {counts.sum()} pixels do not make a mask of {width} x {height}")
    if not runs:
        return []
    counts, bounds = np.concatenate(runs), np.cumsum([0, *map(len, runs)])
    number = np.arange(counts.size) - np.repeat(bounds[:-1], np.diff(bounds))
    numbers = counts - np.where(number > 2, np.roll(counts, 2), 0)
    # A number has as many characters as 5-bit digits are needed for it in two's complement, sign included.
    lengths = 1 + np.searchsorted(_LARGEST, np.where(numbers < 0, ~numbers, numbers), side="right")
    place = np.arange(lengths.max(initial=1))
    digits = (numbers[:, None] >> (5 * place)) & 0x1F
    digits[place < lengths[:, None] - 1] |= 0x20
    characters: NDArray[np.uint8] = (digits[place < lengths[:, None]] + 48).astype(np.uint8)
    text = characters.tobytes().decode("ascii")
    cuts = np.concatenate([[0], np.cumsum(lengths)])[bounds].tolist()
    return [Rle(size=[height, width], counts=text[first:last]) for first, last in itertools.pairwise(cuts)]


def rles_from_spans(
    starts: NDArray[np.int64], stops: NDArray[np.int64], bounds: Sequence[int], size_hw: tuple[int, int]
) -> list[Rle]:
    """Encodings of N masks of one size from spans of their pixels.

    Args:
        starts: (S,) first pixels of spans in column-major order, ascending within a mask; no two touch.
        stops: (S,) the pixels behind their last.
        bounds: (N + 1,) places of the first span of each mask, and S.
        size_hw: (height, width) of the masks.
    """
    pixels = size_hw[0] * size_hw[1]
    runs = []
    for first, last in itertools.pairwise(bounds):
        edges = np.stack([starts[first:last], stops[first:last]], axis=1).reshape(-1)
        counts = np.diff(edges, prepend=0, append=pixels)
        # A trailing foreground run needs nothing after it.
        runs.append(counts[:-1] if counts.size > 1 and counts[-1] == 0 else counts)
    return rles_from_runs(runs, size_hw)


def crop_of(rle: Rle, box_xyxy: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """(y1 - y0, x1 - x0) bool: the pixels of an encoded mask inside a half-open box, without decoding the rest.

    Columns left and right of the box are skipped, so that a small mask of a large image costs little.
    """
    x0, y0, x1, y1 = box_xyxy
    height = rle["size"][0]
    columns = pixels_between(rle_runs(rle), x0 * height, x1 * height).reshape(x1 - x0, height)
    return np.ascontiguousarray(columns[:, y0:y1].T)


def pixels_between(runs: NDArray[np.int64], start: int, stop: int) -> NDArray[np.bool_]:
    """(stop - start,) bool: the pixels `start` to `stop` of runs that are alternately background and foreground."""
    lengths = np.diff(np.cumsum(runs).clip(start, stop), prepend=start)
    return np.repeat(np.arange(lengths.size) % 2 == 1, lengths)


def rle_from_crop(crop: NDArray[np.bool_], corner_xy: tuple[int, int], size_hw: tuple[int, int]) -> Rle:
    """The encoding of an image of `size_hw` that is `crop` with its top left pixel at `corner_xy`, and empty elsewhere.

    Raises:
        ValueError: the crop reaches beyond the image.
    """
    (x0, y0), (height, width) = corner_xy, size_hw
    rows, columns = crop.shape
    if min(x0, y0) < 0 or x0 + columns > width or y0 + rows > height:
        raise ValueError(f"a crop of {columns} x {rows} at ({x0}, {y0}) reaches beyond an image of {width} x {height}")
    return rle_from_runs(_runs_of_lines(crop.T, x0, y0, (width, height)), size_hw)


def row_major_runs(crop: NDArray[np.bool_], corner_xy: tuple[int, int], size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """(K,) run lengths of the same image in row-major order, alternately background and foreground."""
    return _runs_of_lines(crop, corner_xy[1], corner_xy[0], size_hw)


def _runs_of_lines(lines: NDArray[np.bool_], first_line: int, offset: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Run lengths of an image of `shape` = (lines, pixels a line) that is empty but for `lines`, background first.

    Args:
        lines: (n, m) bool, some pixels of n consecutive lines.
        first_line: the line that the first of them is.
        offset: their first pixel in each line.
        shape: the image's shape. The last run is never 0, unless it is the only one.
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
