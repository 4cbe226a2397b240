"""What the readers of annotation tools find: images a person has finished, and their masks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from everymask.errors import InputError
from everymask.masks.checked import fill_polygons
from everymask.records import Rle

MAX_FILE_BYTES = 2**31
_MAX_CORNERS_CHECKED = 20_000
_PAIRS_AT_A_TIME = 2**22


@dataclass(frozen=True)
class ReviewedMask:
    """One mask as a person left it.

    Attributes:
        rle: the mask, of the image's size.
        class_name: as the tool has it.
        mask_id: the exported mask's id; None for one that a person drew.
        polygons: its rings [x0, y0, x1, y1, …] in pixels where the tool has polygons; empty for masks.
    """

    rle: Rle
    class_name: str
    mask_id: str | None
    polygons: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class ReviewedImage:
    """One image that a person has finished; one without masks is finished and empty.

    Attributes:
        name: what the export called it.
        image_id: the store's id, where the tool kept it.
        size_hw: (height, width) in pixels.
        masks: all that are in it now.
        annotator: who; None where the tool does not say.
        corrected_at: when, ISO 8601; None where the tool does not say.
        tolerance_px: that polygons were exported with.
    """

    name: str
    image_id: str | None
    size_hw: tuple[int, int]
    masks: tuple[ReviewedMask, ...]
    annotator: str | None = None
    corrected_at: str | None = None
    tolerance_px: float = 0.0


def read_json(path: Path) -> Any:
    """The contents of a JSON file.

    Raises:
        InputError: it cannot be read, is too large, or is no complete JSON.
    """
    data = read_file(path)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not complete JSON ({error}); export it again from the tool") from error


def read_file(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        InputError: it cannot be read, is too large, or is an archive.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} has more than {MAX_FILE_BYTES:,} bytes; import it in parts")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the path") from error
    if data[:4] == b"PK\x03\x04":
        raise InputError(f"{path} is a ZIP archive; unpack it and import what is in it")
    return data


def polygon_mask(
    polygons: list[list[float]], class_name: str, mask_id: str | None, size_hw: tuple[int, int]
) -> ReviewedMask:
    """A mask that a tool keeps as polygons."""
    usable = [tuple(float(value) for value in polygon) for polygon in polygons]
    return ReviewedMask(fill_polygons(usable, size_hw), class_name, mask_id, tuple(usable))


def crosses_itself(polygon: tuple[float, ...]) -> bool:
    """Whether two sides of a ring cross at a point inside both; sides that touch or lie on each other do not."""
    corners = np.array(polygon).reshape(-1, 2)
    count = len(corners)
    if count < 4 or count > _MAX_CORNERS_CHECKED:
        return False
    ends = np.roll(corners, -1, axis=0)
    step = max(1, _PAIRS_AT_A_TIME // count)
    for first in range(0, count, step):
        start, end = corners[first : first + step, None], ends[first : first + step, None]
        apart = _side(start, end, corners[None]) * _side(start, end, ends[None]) < 0
        other = _side(corners[None], ends[None], start) * _side(corners[None], ends[None], end) < 0
        if bool((apart & other).any()):
            return True
    return False


def _side(start: NDArray[np.float64], end: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    """-1, 0 or 1: on which side of a line a point lies."""
    along, off = end - start, point - start
    return np.sign(along[..., 0] * off[..., 1] - along[..., 1] * off[..., 0])


def the_field(content: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A field of a JSON object.

    Raises:
        InputError: it is not there, or of another kind.
    """
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, kind):
        raise InputError(f"{where} has no proper {name!r}; export it again from the tool, or give its --format")
    return value


EditingFormat = Literal["label-studio", "x-anylabeling", "labelme", "cvat", "coco"]
