"""Masks from outside this run, checked before anything is computed with them.

pycocotools trusts its input: bad corners, counts or sizes make it read foreign memory, divide by zero or never return.
So every reader of stores, corrections, tool files and ground truth makes its masks here. Each refusal is an
`InputError` that says what is wrong; the caller adds where.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from everymask.errors import InputError
from everymask.masks.rle import encoded_pixels
from everymask.masks.runs import rle_from_crop, rle_from_runs
from everymask.records import MAX_IMAGE_PIXELS, Rle

MAX_CLASSES = 65_536
"""Bound on class ids, because readers may make a list of that length (our choice)."""
_MAX_NAME_LENGTH = 1_000
_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_MAX_OUTLINE_PX = 10_000_000
"""Longest polygon outline that is filled; pycocotools needs 100 bytes for each pixel of it."""


def checked_size(height: object, width: object) -> tuple[int, int]:
    """The image size as (height, width); InputError unless it has 1 to `MAX_IMAGE_PIXELS` pixels."""
    if not (_is_integer(height) and _is_integer(width)):
        raise InputError(f"its image has {width!r} x {height!r} pixels, which is no size")
    if not (height > 0 and width > 0 and height * width <= MAX_IMAGE_PIXELS):  # type: ignore[operator]
        raise InputError(f"its image has {width} x {height} pixels; masks are kept of 1 to {MAX_IMAGE_PIXELS:,} pixels")
    return int(height), int(width)  # type: ignore[call-overload]


def check_class(class_id: object, class_name: object) -> None:
    """InputError unless `class_id` and `class_name` are both None (entities) or both valid."""
    if (class_id is None) != (class_name is None):
        raise InputError(f"a mask has class_id {class_id} and class_name {class_name!r}; one is missing")
    if class_id is None:
        return
    if not _is_integer(class_id) or not 0 <= class_id < MAX_CLASSES:  # type: ignore[operator]
        raise InputError(f"a mask has class_id {class_id}; class ids are in [0, {MAX_CLASSES})")
    check_class_name(class_name)


def check_class_name(name: object) -> None:
    """InputError if a class name is empty, too long, or holds characters that no text can show."""
    if not isinstance(name, str) or not name.strip() or len(name) > _MAX_NAME_LENGTH:
        raise InputError(f"a class is named {str(name)[:40]!r}; a name has 1 to {_MAX_NAME_LENGTH:,} characters")
    odd = _NOT_TEXT.search(name)
    if odd:
        raise InputError(f"the class {name!a} holds {odd[0]!a}, which no text can show; rename it")


def rle_from_coco(segmentation: object, size_hw: tuple[int, int]) -> Rle:
    """A mask from a COCO `segmentation`, any JSON value: polygons, or run lengths as text or numbers.

    Raises:
        InputError: it is not a mask of an image of `size_hw`.
    """
    if isinstance(segmentation, list):
        return fill_polygons(segmentation, size_hw)
    if not isinstance(segmentation, dict):
        raise InputError(f"its segmentation is {_shown(segmentation)}, neither polygons nor run lengths")
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != list(size_hw):
        raise InputError(f"its run lengths are of [height, width] {_shown(size)}, its image is {list(size_hw)}")
    return rle_from_text(counts, size_hw) if isinstance(counts, str) else rle_from_numbers(counts, size_hw)


def rle_from_text(counts: object, size_hw: tuple[int, int]) -> Rle:
    """A mask from COCO's compressed run lengths; errors as in `rle_from_coco`."""
    if not isinstance(counts, str) or encoded_pixels([counts])[0] != math.prod(size_hw):
        raise InputError("a mask's counts are no run-length encoding of its image")
    return Rle(size=list(size_hw), counts=counts)


def rle_from_numbers(runs: object, size_hw: tuple[int, int]) -> Rle:
    """A mask from column-major run lengths, background first; errors as in `rle_from_coco`."""
    return rle_from_runs(_checked_runs(runs, math.prod(size_hw), "its image"), size_hw)


def rle_from_box_runs(
    runs: object, box_hw: tuple[int, int], corner_xy: tuple[int, int], size_hw: tuple[int, int]
) -> Rle:
    """A mask from CVAT's row-major run lengths inside a box, background first.

    Args:
        runs: a list of integers.
        box_hw: (height, width) of the box in pixels.
        corner_xy: the box's left and top pixel.

    Raises:
        InputError: the box does not lie in the image, or the runs do not fill it.
    """
    (height, width), (left, top) = box_hw, corner_xy
    if not (0 < height <= size_hw[0] - top and 0 < width <= size_hw[1] - left and left >= 0 and top >= 0):
        raise InputError(
            f"a mask of {width} x {height} pixels at ({left}, {top}) does not lie in its image of {size_hw[1]} x "
            f"{size_hw[0]}"
        )
    counts = _checked_runs(runs, height * width, "its box")
    crop = np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(box_hw)
    return rle_from_crop(crop, corner_xy, size_hw)


def fill_polygons(polygons: object, size_hw: tuple[int, int]) -> Rle:
    """The union of polygons [x0, y0, x1, y1, …] in pixels, as pycocotools fills them.

    Polygons of fewer than three corners fill nothing. Tools let people draw over the edge, so a corner may lie as far
    outside the image as it is wide or high.

    Raises:
        InputError: a corner is not a point or lies farther away, or an outline is too long to be filled.
    """
    if not isinstance(polygons, Sequence) or isinstance(polygons, str):
        raise InputError(f"its polygons are {_shown(polygons)}, no list of rings")
    height, width = size_hw
    usable = []
    for polygon in polygons:
        corners = checked_corners(polygon, size_hw)
        if len(corners) >= 3:
            usable.append(corners.ravel().tolist())
    if not usable:
        usable = [[0.0] * 6]
    raw = coco_mask.merge(coco_mask.frPyObjects(usable, height, width))
    return Rle(size=[height, width], counts=raw["counts"].decode("ascii"))


def checked_corners(polygon: object, size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """(K, 2) float64 corners of a polygon [x0, y0, x1, y1, …]; errors as in `fill_polygons`."""
    try:
        flat = np.asarray(polygon)
        if flat.ndim != 1 or flat.size % 2 or (flat.size and flat.dtype.kind not in "iuf"):
            raise ValueError
        corners = flat.astype(np.float64).reshape(-1, 2)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"a polygon is {_shown(polygon)}, no list of x and y") from None
    if not np.isfinite(corners).all():
        raise InputError("a polygon has a corner that is no number (NaN or infinity)")
    reach = np.array([size_hw[1], size_hw[0]], dtype=np.float64)
    far = ((corners < -reach) | (corners > 2 * reach)).any(axis=1)
    if far.any():
        x, y = corners[int(far.argmax())]
        raise InputError(
            f"a polygon has a corner at ({x:g}, {y:g}), far outside its image of {size_hw[1]} x {size_hw[0]} pixels"
        )
    length = np.abs(np.diff(corners, axis=0, append=corners[:1])).max(axis=1, initial=0).sum() if len(corners) else 0
    if length > _MAX_OUTLINE_PX:
        raise InputError(f"a polygon is {length:,.0f} pixels long; the longest that is filled has {_MAX_OUTLINE_PX:,}")
    return corners


def _checked_runs(runs: object, pixels: int, of: str) -> NDArray[np.int64]:
    """(K,) run lengths that sum to `pixels`; `of` names the area in the error."""
    try:
        counts = np.asarray(runs)
        if counts.ndim != 1 or not counts.size or counts.dtype.kind not in "iu":
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"a mask's run lengths are {_shown(runs)}, no list of whole numbers") from None
    # One by one first: sums of numbers near 2^63 wrap.
    if counts.min() < 0 or counts.max() > pixels or counts.sum(dtype=np.float64) != pixels:
        raise InputError(f"a mask's run lengths do not add up to the {pixels:,} pixels of {of}")
    return counts.astype(np.int64)


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _shown(value: object) -> str:
    """A value shortened for an error message, without printing all of a long list first."""
    text = ascii(value[:8] if isinstance(value, (list, tuple, str)) else value)
    return text if len(text) <= 40 else f"{text[:40]}…"
