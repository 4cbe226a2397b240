"""Run lengths of masks: COCO's text as numbers, and runs in the row-major order that other formats use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from everymask.records import Rle


def rle_runs(rle: Rle) -> NDArray[np.int64]:
    """(K,) run lengths of an encoding in column-major order, alternately background and foreground.

    COCO's text has 5 bits in each character, bit 6 for "goes on", and every number from the fourth on as its difference
    from the last but one (`rleToString` of cocoapi's maskApi.c).
    """
    characters = np.frombuffer(rle["counts"].encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    if characters.size == 0:
        return np.zeros(0, dtype=np.int64)
    last = (characters & 0x20) == 0
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    place = np.arange(characters.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((characters & 0x1F) << (5 * place), starts)
    negative = (characters[ends] & 0x10) != 0
    values -= negative.astype(np.int64) << (5 * lengths)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def rle_from_runs(runs: NDArray[np.int64] | list[int], size_hw: tuple[int, int]) -> Rle:
    """The encoding of (K,) column-major run lengths, alternately background and foreground.

    Raises:
        ValueError: they do not add up to the pixels of the image, or one is negative.
    """
    counts = [int(run) for run in runs]
    height, width = size_hw
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise ValueError(f"runs of {sum(counts)} pixels do not make a mask of {width} x {height}")
    raw = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return Rle(size=[height, width], counts=raw["counts"].decode("ascii"))


def crop_of(rle: Rle, box_xyxy: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """(y1 - y0, x1 - x0) bool: the pixels of an encoded mask inside a half-open box, without decoding the rest.

    Columns left and right of the box are skipped, so that a small mask of a large image costs little.
    """
    x0, y0, x1, y1 = box_xyxy
    height = rle["size"][0]
    edges = np.cumsum(rle_runs(rle))
    starts, ends = edges[0::2], edges[1::2]
    starts = starts[: ends.size]
    first, past_last = x0 * height, x1 * height
    # +1 where a run of foreground begins and -1 where it ends; the running sum is the mask.
    steps = np.zeros(past_last - first + 1, dtype=np.int8)
    inside = (ends > first) & (starts < past_last)
    np.add.at(steps, np.clip(starts[inside], first, past_last) - first, 1)
    np.add.at(steps, np.clip(ends[inside], first, past_last) - first, -1)
    columns = np.cumsum(steps[:-1], dtype=np.int8).reshape(x1 - x0, height)
    return np.ascontiguousarray(columns[:, y0:y1].T.view(np.bool_))


def rle_from_crop(crop: NDArray[np.bool_], corner_xy: tuple[int, int], size_hw: tuple[int, int]) -> Rle:
    """The encoding of an image of `size_hw` that is `crop` with its top left pixel at `corner_xy`, and empty elsewhere.

    Raises:
        ValueError: the crop reaches beyond the image.
    """
    (x0, y0), (height, width) = corner_xy, size_hw
    rows, columns = crop.shape
    if min(x0, y0) < 0 or x0 + columns > width or y0 + rows > height:
        raise ValueError(f"a crop of {columns} x {rows} at ({x0}, {y0}) reaches beyond an image of {width} x {height}")
    starts, ends = _line_runs(np.ascontiguousarray(crop.T), x0, y0, height)
    return rle_from_runs(_alternating(starts, ends, height * width), size_hw)


def row_major_runs(crop: NDArray[np.bool_], corner_xy: tuple[int, int], size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """(K,) run lengths of the same image in row-major order, alternately background and foreground."""
    (x0, y0), (height, width) = corner_xy, size_hw
    return _alternating(*_line_runs(crop, y0, x0, width), height * width)


def _line_runs(
    lines: NDArray[np.bool_], first_line: int, offset: int, line_length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of the foreground runs of consecutive lines, as positions in an image of `line_length` lines."""
    count, length = lines.shape
    padded = np.zeros((count, length + 2), dtype=np.int8)
    padded[:, 1:-1] = lines
    change = np.diff(padded, axis=1)
    start_line, start = np.nonzero(change == 1)
    end_line, end = np.nonzero(change == -1)
    starts = (start_line + first_line) * line_length + start + offset
    ends = (end_line + first_line) * line_length + end + offset
    # A run that reaches the end of a line goes on where the next line begins with one.
    joined = np.flatnonzero(starts[1:] == ends[:-1])
    return np.delete(starts, joined + 1), np.delete(ends, joined)


def _alternating(starts: NDArray[np.int64], ends: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Background, foreground, … run lengths; the last one is never 0."""
    bounds = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [total]]).astype(np.int64)
    runs = np.diff(bounds)
    return runs[:-1] if runs.size > 1 and runs[-1] == 0 else runs
