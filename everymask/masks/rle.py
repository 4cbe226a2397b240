"""COCO compressed run-length encoding of boolean masks, through pycocotools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from everymask.masks.runs import (
    ious_of_spans,
    places_within,
    rle_from_crop,
    rles_from_spans,
    spans_of_rles,
    undo_differences,
)
from everymask.records import Rle

if TYPE_CHECKING:
    import torch

_MAX_DIGITS = 7  # 40 bits, more than the pixels of any image


def _to_rle(raw: dict[str, Any]) -> Rle:
    return Rle(size=[int(side) for side in raw["size"]], counts=raw["counts"].decode("ascii"))


def encode_masks(masks: NDArray[np.bool_] | torch.Tensor) -> list[Rle]:
    """Encode (N, H, W) bool masks with H, W ≥ 1; ValueError for any other shape or dtype."""
    array = masks if isinstance(masks, np.ndarray) else masks.detach().cpu().numpy()
    if array.ndim != 3 or array.dtype != np.bool_:
        raise ValueError(f"masks must be (N, H, W) bool; got {array.shape} {array.dtype}")
    return [_encode(mask) for mask in array]


def _encode(mask: NDArray[np.bool_]) -> Rle:
    """Encode one (H, W) mask, cropped to its box where that is small: transposing takes most of the time."""
    rows = np.flatnonzero(mask.any(axis=1))
    if len(rows):
        lines = mask[rows[0] : rows[-1] + 1]
        columns = np.flatnonzero(lines.any(axis=0))
        crop = lines[:, columns[0] : columns[-1] + 1]
        if 2 * crop.size < mask.size:
            return rle_from_crop(crop, (int(columns[0]), int(rows[0])), (mask.shape[0], mask.shape[1]))
    return _to_rle(coco_mask.encode(np.asfortranarray(mask).view(np.uint8)))


def encode_mask(mask: NDArray[np.bool_] | torch.Tensor) -> Rle:
    """Encode one (H, W) bool mask."""
    return encode_masks(mask[None])[0]


def encode_label_map(label_map: NDArray[np.integer], num_labels: int) -> list[Rle]:
    """Encode every region of a (H, W) integer label map in one pass over its pixels.

    Encoding i is that of `label_map == i`, for i in [0, num_labels); negative values are background, and a label
    without a pixel gives an empty mask.

    Raises:
        ValueError: a value at or above `num_labels`, or not two axes.
    """
    if label_map.ndim != 2:
        raise ValueError(f"label_map must be (H, W); got {label_map.shape}")
    height, width = label_map.shape
    flat = label_map.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    labels = flat[starts].astype(np.int64)
    if labels.max() >= num_labels:
        raise ValueError(f"label_map holds {labels.max()}, but there are only {num_labels} labels")

    order = np.argsort(labels, kind="stable")
    starts, ends, labels = starts[order], ends[order], labels[order]
    firsts = np.searchsorted(labels, np.arange(num_labels + 1))
    background = firsts[0]
    return rles_from_spans(starts[background:], ends[background:], firsts - background, (height, width))


@dataclass(frozen=True)
class EncodedMasks:
    """What the compressed counts of N masks encode, found without trusting them.

    Areas and boxes mean nothing unless `pixels` is the image's number of pixels.

    Attributes:
        pixels: (N,) pixels that the counts cover, background included; -1 where they are not a run-length encoding.
        areas: (N,) pixels in each mask.
        boxes_xyxy: (N, 4) tight half-open boxes; zeros for an empty mask.
    """

    pixels: NDArray[np.int64]
    areas: NDArray[np.int64]
    boxes_xyxy: NDArray[np.int64]


def encoded_masks(counts: Sequence[str], heights: Sequence[int]) -> EncodedMasks:
    """Check the counts of masks in images of the given heights (each ≥ 1), in one pass over all their text.

    pycocotools does no checks: for counts that run past the image it reads foreign memory or never returns.
    """
    runs, lengths, sound = _sound_runs(counts)
    pixels = np.full(len(counts), -1, dtype=np.int64)
    areas = np.zeros(len(counts), dtype=np.int64)
    boxes = np.zeros((len(counts), 4), dtype=np.int64)
    texts = np.flatnonzero(lengths)
    if not texts.size:
        return EncodedMasks(pixels, areas, boxes)
    firsts = np.cumsum(lengths[texts]) - lengths[texts]
    pixels[texts] = np.add.reduceat(runs, firsts)
    pixels[~sound] = -1
    # Every second run is mask.
    number = lengths[texts] // 2
    places = np.repeat(firsts + 1, number) + 2 * places_within(number)
    lengths_inside = runs[places]
    before = np.repeat(np.concatenate([[0], np.cumsum(runs)])[firsts], number)
    starts = np.cumsum(runs)[places - 1] - before
    owner = np.repeat(texts, number)
    if (some := lengths_inside > 0).size and not some.all():
        lengths_inside, starts, owner = lengths_inside[some], starts[some], owner[some]
    if not owner.size:
        return EncodedMasks(pixels, areas, boxes)
    begins = np.flatnonzero(np.diff(owner, prepend=-1))
    found = owner[begins]
    areas[found] = np.add.reduceat(lengths_inside, begins)
    boxes[found] = _boxes(starts, starts + lengths_inside - 1, begins, np.array(heights, dtype=np.int64)[found])
    return EncodedMasks(pixels, areas, boxes)


def _boxes(
    starts: NDArray[np.int64], lasts: NDArray[np.int64], begins: NDArray[np.int64], heights: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(N, 4) tight boxes of masks from the first and last pixels of their spans, column by column.

    `begins` (N,) is where each mask's spans begin, `heights` (N,) the height of its image.
    """
    ends = np.append(begins[1:], starts.size) - 1
    # Dividing by one number is several times faster than by as many as there are spans.
    height = heights[0] if (heights == heights[0]).all() else np.repeat(heights, ends - begins + 1)
    left, right = starts // height, lasts // height
    beyond = right > left  # spans into the next column
    upper, lower = starts - left * height, lasts - right * height
    upper[beyond] = 0
    lower[beyond] = (np.broadcast_to(height, beyond.shape) - 1)[beyond]
    sides = [left[begins], np.minimum.reduceat(upper, begins), right[ends] + 1, np.maximum.reduceat(lower, begins) + 1]
    return np.stack(sides, axis=1)


def encoded_pixels(counts: Sequence[str]) -> NDArray[np.int64]:
    return encoded_masks(counts, [1] * len(counts)).pixels


def _sound_runs(counts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """(K,) run lengths of all counts, the (N,) number of runs of each, and (N,) which texts are valid.

    An invalid text may still have runs.
    """
    joined = "".join(counts)
    if joined.isascii():
        characters = np.frombuffer(joined.encode("ascii"), dtype=np.uint8) - np.uint8(48)
    else:  # four bytes a character, of whatever alphabet
        wide = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        characters = np.minimum(wide, 255).astype(np.uint8) - np.uint8(48)
    lengths = np.array([len(text) for text in counts], dtype=np.int64)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    # Six bits a character: five of the number, lowest first, and whether it goes on. Below 48, what is left wraps.
    sound = lengths > 0
    sound[sound] &= characters[bounds[1:][sound] - 1] < 0x20
    sound[np.searchsorted(bounds, np.flatnonzero(characters > 63), side="right") - 1] = False
    runs_of = np.zeros(len(counts), dtype=np.int64)
    if not sound.all():  # what is unsound must not run into its neighbours
        characters, lengths = characters[np.repeat(sound, lengths)], lengths[sound]
    if not len(characters):
        return np.zeros(0, dtype=np.int64), runs_of, sound
    ends = np.flatnonzero(characters < 0x20)
    starts = np.concatenate([[0], ends[:-1] + 1])
    numbers = (characters[starts] & 0x1F).astype(np.int64)
    longer = np.flatnonzero(ends > starts)
    for place in range(1, _MAX_DIGITS + 1):
        numbers[longer] |= (characters[starts[longer] + place] & 0x1F).astype(np.int64) << (5 * place)
        longer = longer[ends[longer] > starts[longer] + place]
    negative = np.flatnonzero(characters[ends] & 0x10)
    digits = np.minimum(ends[negative] - starts[negative], _MAX_DIGITS) + 1
    numbers[negative] -= np.int64(1) << (5 * digits)
    first = np.searchsorted(starts, np.cumsum(lengths) - lengths)
    texts = np.flatnonzero(sound)
    runs_of[texts] = np.diff(np.append(first, len(starts)))
    sound[texts[np.searchsorted(first, longer, side="right") - 1]] = False  # they have more digits
    runs = undo_differences(numbers, first, runs_of[texts])
    sound[texts[np.minimum.reduceat(runs, first) < 0]] = False
    return runs, runs_of, sound


def decode_mask(rle: Rle) -> NDArray[np.bool_]:
    """The (H, W) bool mask of an encoding."""
    decoded: NDArray[np.uint8] = coco_mask.decode(rle)
    return np.ascontiguousarray(decoded.view(np.bool_))


def decode_masks(rles: Sequence[Rle], size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(N, H, W) bool masks of encodings of `size_hw`; ValueError for one of another size."""
    masks = np.zeros((len(rles), *size_hw), dtype=np.bool_)
    for mask, rle in zip(masks, rles, strict=True):
        if tuple(rle["size"]) != tuple(size_hw):
            raise ValueError(f"encoding is of size {tuple(rle['size'])}, not {tuple(size_hw)}")
        mask[:] = decode_mask(rle)
    return masks


def rle_areas(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """(N,) pixels in each encoded mask, without decoding."""
    # pycocotools counts the masks of one call in a byte, and refuses more with numpy 2.
    chunks = [coco_mask.area(list(rles[start : start + 255])) for start in range(0, len(rles), 255)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *chunks]).astype(np.int64)


def rle_coverage(rles: Sequence[Rle], size_hw: tuple[int, int]) -> float:
    """Share of an image's pixels in at least one mask, [0, 1]."""
    covered = int(coco_mask.area(coco_mask.merge(list(rles)))) if rles else 0
    return covered / (size_hw[0] * size_hw[1])


def rle_ious(first: Sequence[Rle], second: Sequence[Rle]) -> NDArray[np.float64]:
    """(N, M) IoU in [0, 1] of encodings of one size, without decoding; 0 where both are empty."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    crowd = [0] * len(second)
    return np.asarray(coco_mask.iou(list(first), list(second), crowd), dtype=np.float64)


def paired_ious(first: Sequence[Rle], second: Sequence[Rle]) -> NDArray[np.float64]:
    """(N,) IoU in [0, 1] of each mask of `first` with the mask of `second` at its place, all of one size; 0 where both
    are empty."""
    if not first:
        return np.zeros(0)
    spans, others = (spans_of_rles(rles)[:2] for rles in (first, second))
    return ious_of_spans(spans, others, math.prod(first[0]["size"]), len(first))


def shares_inside(masks: Sequence[Rle], others: Sequence[Rle]) -> NDArray[np.float64]:
    """(N,) share in [0, 1] of each mask inside the union of `others`, all of one size, without decoding."""
    if not masks or not others:
        return np.zeros(len(masks))
    # For a "crowd", pycocotools divides the intersection by the area of the first mask.
    return np.asarray(coco_mask.iou(list(masks), [coco_mask.merge(list(others))], [1]), dtype=np.float64)[:, 0]


def boxes_from_rles(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """(N, 4) boxes_xyxy of encoded masks, without decoding."""
    xywh = np.asarray(coco_mask.toBbox(list(rles)), dtype=np.int64).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
