"""The results of labelling an image: records shared by stores, services and exports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

MemberKind = Literal["range", "scan", "row", "frame", "page"]

MAX_IMAGE_PIXELS = 1 << 29
"""Pixels of the largest labelled image, 23,170 x 23,170 (our choice); exporting one mask of it takes GiBs."""


class Rle(TypedDict):
    """COCO compressed run-length encoding of one mask (column-major, as in pycocotools)."""

    size: list[int]
    """[height, width] in pixels."""
    counts: str
    """ASCII text."""


@dataclass(frozen=True, slots=True)
class Member:
    """Where an image lies inside a file.

    Attributes:
        kind: `range`: bytes of the file; `scan`: bytes of the unpacked `.tar.gz`; `row`: of a Parquet file; `frame`: of
            a video; `page`: of a TIFF or an animation.
        name: the member's name in a tar; the column of a row.
        offset: of the first byte.
        size: in bytes.
        row: from 0.
        milliseconds: from the beginning of the video.
        page: from 0.
    """

    kind: MemberKind
    name: str | None = None
    offset: int | None = None
    size: int | None = None
    row: int | None = None
    milliseconds: int | None = None
    page: int | None = None


@dataclass(frozen=True, slots=True)
class LabelledMask:
    """One final mask at the image's original resolution.

    Attributes:
        rle: the mask.
        box_xyxy: tight half-open box (x0, y0, x1, y1) in pixels, so width = x1 - x0.
        area: pixels in the mask.
        predicted_iou: the model's own estimate of the mask's IoU, about [0, 1]; None where it makes none.
        stability_score: IoU of the mask thresholded high and low, [0, 1].
        point_coords: (x, y) in original pixels, the prompt the mask came from; of a name, where the model is
            surest of the mask.
        score: what masks of one image are ranked by, [0, 1].
        class_id: index into the class list, None for entities.
        class_name: None for entities.
        uncertainty: normalised entropy of the class probabilities, [0, 1]; None for entities.
        agreement: IoU of an entity with the pixels its own logits claim, [0, 1]; None for other methods.
        mask_id: 24 hexadecimal digits, the same wherever the same settings find this mask in the same file; None until
            `everymask.labels.mask_ids.with_mask_ids` has given one.
    """

    rle: Rle
    box_xyxy: tuple[int, int, int, int]
    area: int
    predicted_iou: float | None
    stability_score: float
    point_coords: tuple[float, float]
    score: float
    class_id: int | None = None
    class_name: str | None = None
    uncertainty: float | None = None
    agreement: float | None = None
    mask_id: str | None = None

    @property
    def estimate(self) -> float:
        """`predicted_iou`; `score` of a model that makes no such estimate."""
        return self.score if self.predicted_iou is None else self.predicted_iou


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """Every mask of one image, in descending score.

    Attributes:
        size_hw: (height, width) of the image in pixels.
        masks: may be empty; zero masks is an answer.
        coverage: share of the image's pixels in at least one mask, [0, 1].
        missed: how many masks of the classes were probably left out, at least 0; None for methods without classes.
        presence: how sure the model is that the image shows each class at all, [0, 1], in the order of the classes;
            None for methods that do not say. It is already in the masks' scores.
    """

    size_hw: tuple[int, int]
    masks: tuple[LabelledMask, ...]
    coverage: float
    missed: float | None = None
    presence: tuple[float, ...] | None = None
