"""Results of the annotation tools' readers: images that a person finished, and their masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from everymask.labels.correction import Outline
from everymask.masks.checked import fill_polygons
from everymask.records import Rle

EditingFormat = Literal["label-studio", "x-anylabeling", "labelme", "cvat", "coco"]
_MAX_CORNERS_CHECKED = 20_000
_PAIRS_AT_A_TIME = 2**22


@dataclass(frozen=True)
class ReviewedMask:
    """One mask as a person left it.

    Attributes:
        rle: of the image's size.
        class_name: as the tool has it.
        mask_id: the exported mask's id; None if a person drew it.
        polygons: rings [x0, y0, x1, y1, …] in pixels; empty if the tool keeps masks.
        drawn_as: the shape drawn, if it does not outline an object; None for masks and polygons.
        is_group: whether the tool calls it a group (COCO's `iscrowd`).
    """

    rle: Rle
    class_name: str
    mask_id: str | None
    polygons: tuple[tuple[float, ...], ...] = ()
    drawn_as: Outline | None = None
    is_group: bool = False


@dataclass(frozen=True)
class ReviewedImage:
    """One image that a person finished; without masks it is finished and empty.

    Attributes:
        name: what the export called it.
        image_id: the store's id, if the tool kept it.
        size_hw: (height, width) in pixels; (0, 0) if no mask or field gives it.
        masks: all masks now in it.
        annotator: None if the tool does not say.
        corrected_at: ISO 8601; None if the tool does not say.
        tolerance_px: with which polygons were exported.
        ignored: number of things that are not masks, such as points and choices, by kind.
    """

    name: str
    image_id: str | None
    size_hw: tuple[int, int]
    masks: tuple[ReviewedMask, ...]
    annotator: str | None = None
    corrected_at: str | None = None
    tolerance_px: float = 0.0
    ignored: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RefusedImage:
    """One image that cannot be read; others of its file may be fine.

    Attributes:
        name: what the export called it, or its place in the file.
        problem: one sentence.
    """

    name: str
    problem: str


def polygon_mask(
    polygons: list[list[float]],
    class_name: str,
    mask_id: str | None,
    size_hw: tuple[int, int],
    drawn_as: Outline | None = None,
) -> ReviewedMask:
    """A mask from a tool's polygons; InputError if one cannot be filled."""
    rle = fill_polygons(polygons, size_hw)
    return ReviewedMask(rle, class_name, mask_id, tuple(tuple(map(float, ring)) for ring in polygons), drawn_as)


def ellipse_ring(centre_xy: tuple[float, float], radii_xy: tuple[float, float], degrees: float) -> list[float]:
    """An ellipse as a ring [x0, y0, x1, y1, …], rotated clockwise on the screen about its centre."""
    angles = np.linspace(0, 2 * np.pi, int(np.clip(4 * max(radii_xy, default=0), 16, 720)), endpoint=False)
    points = np.stack([radii_xy[0] * np.cos(angles), radii_xy[1] * np.sin(angles)], axis=1)
    return _turned(points, centre_xy, degrees)


def box_ring(box_xyxy: tuple[float, float, float, float], degrees: float) -> list[float]:
    """A box as a ring [x0, y0, x1, y1, …], rotated clockwise on the screen about its centre."""
    x0, y0, x1, y1 = box_xyxy
    half_x, half_y = (x1 - x0) / 2, (y1 - y0) / 2
    points = np.array([[-half_x, -half_y], [half_x, -half_y], [half_x, half_y], [-half_x, half_y]])
    return _turned(points, ((x0 + x1) / 2, (y0 + y1) / 2), degrees)


def _turned(points: NDArray[np.float64], centre_xy: tuple[float, float], degrees: float) -> list[float]:
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    ring: list[float] = (points @ np.array([[cosine, sine], [-sine, cosine]]) + np.array(centre_xy)).ravel().tolist()
    return ring


def crosses_itself(polygon: tuple[float, ...]) -> bool:
    """Whether two sides of a ring cross at a point inside both; sides that only touch or overlap do not count."""
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
    """The side of a line on which a point lies: -1, 0 or 1."""
    along, off = end - start, point - start
    return np.sign(along[..., 0] * off[..., 1] - along[..., 1] * off[..., 0])
