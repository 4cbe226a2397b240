"""Converts between rows of the label store and records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import pyarrow as pa

from everymask.errors import InputError
from everymask.labels.mask_columns import masks_of_rows
from everymask.labels.members import read_member
from everymask.labels.schema import SCHEMA
from everymask.masks.checked import check_class, checked_size
from everymask.masks.rle import encoded_masks
from everymask.records import ImageLabels, LabelledMask, Member, Rle
from everymask.redaction import redact

_BESIDE_MASKS = [name for name in SCHEMA.names if name != "masks"]
_MASK_ID = re.compile("[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of a run: its labels, or the sentence that says why it has none.

    Attributes:
        image_id: unique in the run, the uri relative to the input root.
        uri: where the image is; stored without the secrets of an address.
        labels: None exactly where `error` is not.
        error: one sentence.
        content_sha256: hex digest of the file's bytes, None where it could not be read.
        seconds: spent on decoding and labelling.
        member: where in the file at `uri` the image lies; None where it is the file.
        file_size: bytes of the image, as the listing said.
        file_version: the file's state, as the listing said: `mtime:…` or `etag:…`.
        dhash: difference hash of the picture, 16 hexadecimal digits.
    """

    image_id: str
    uri: str
    labels: ImageLabels | None
    error: str | None = None
    content_sha256: str | None = None
    seconds: float = 0.0
    member: Member | None = None
    file_size: int | None = None
    file_version: str | None = None
    dhash: str | None = None

    def __post_init__(self) -> None:
        if (self.labels is None) == (self.error is None):
            raise ValueError(f"{self.image_id}: an image has either labels or an error")


def to_table(images: Iterable[ImageRow]) -> pa.Table:
    """Rows of the label store (`SCHEMA`), in order."""
    return pa.Table.from_pylist([_to_row(image) for image in images], schema=SCHEMA)


def from_batch(batch: pa.RecordBatch | pa.Table, place: str = "the label store") -> list[ImageRow]:
    """The records of rows of `SCHEMA`, in order; `place` names their origin in errors.

    Raises:
        InputError: a row is invalid, because something else wrote or altered it.
    """
    sound = masks_of_rows(batch)
    rows = (batch if sound is None else batch.select(_BESIDE_MASKS)).to_pylist()
    extents = mask_extents(
        (mask, row.get("height")) for row in rows if row.get("status") == "ok" for mask in row.get("masks") or ()
    )
    images = []
    for number, row in enumerate(rows):
        try:
            images.append(_from_row(row, extents, None if sound is None else sound[number]))
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{place} holds a row that makes no sense, of image {row.get('image_id')!r}: {_reason(error)}; move "
                "the file out of the label store, and label its images again"
            ) from error
    return images


@dataclass(frozen=True, slots=True)
class MaskExtent:
    """Extent of a stored mask: pixels its counts cover (-1 if invalid), its area and its tight box."""

    pixels: int
    area: int
    box_xyxy: tuple[int, int, int, int]


def mask_extents(masks: Iterable[tuple[dict[str, Any] | None, int | None]]) -> Iterator[MaskExtent]:
    """Extents of stored masks, each given with its image's height, computed together for speed."""
    counts, heights = [], []
    for mask, height in masks:
        rle = mask["rle"] if mask else None
        counts.append((rle["counts"] if rle else None) or "")
        heights.append(max(height or 1, 1))
    found = encoded_masks(counts, heights)
    boxes = map(tuple, found.boxes_xyxy.tolist())
    return iter(list(map(MaskExtent, found.pixels.tolist(), found.areas.tolist(), boxes)))


def checked_rle(mask: dict[str, Any] | None, size_hw: tuple[int, int], extent: MaskExtent) -> Rle:
    """A stored mask's encoding; InputError if it is not a mask of its image."""
    if mask is None or mask["rle"] is None:
        raise InputError("a mask is null")
    rle = Rle(size=mask["rle"]["size"], counts=mask["rle"]["counts"])
    if rle["size"] != list(size_hw):
        raise InputError(f"a mask has size {rle['size']}, its image has [height, width] {list(size_hw)}")
    if extent.pixels != size_hw[0] * size_hw[1]:
        raise InputError("a mask's counts are no run-length encoding of its image")
    return rle


def is_mask_id(value: object) -> bool:
    """Whether a value is a mask id: 24 hexadecimal digits."""
    return isinstance(value, str) and _MASK_ID.fullmatch(value) is not None


def check_numbers(record: dict[str, Any], required: Sequence[str], optional: Sequence[str] = ()) -> None:
    """InputError if a row's numbers are missing, NaN or infinite."""
    for name in required:
        if record[name] is None:
            raise InputError(f"a mask has no {name}" if "rle" in record else f"it has no {name}")
    for name in (*required, *optional):
        if record[name] is not None and not isfinite(record[name]):
            raise InputError(f"its {name} is {record[name]}, which is no number")


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    return str(error)


def _to_row(image: ImageRow) -> dict[str, Any]:
    labels = image.labels
    row: dict[str, Any] = {
        "image_id": image.image_id,
        "uri": redact(image.uri),
        "member": None if image.member is None else asdict(image.member),
        "file_size": image.file_size,
        "file_version": image.file_version,
        "content_sha256": image.content_sha256,
        "dhash": image.dhash,
        "seconds": image.seconds,
        "error": None if image.error is None else redact(image.error),
        "status": "error" if labels is None else "ok",
    }
    if labels is not None:
        row["height"], row["width"] = labels.size_hw
        row["coverage"] = labels.coverage
        row["missed"] = labels.missed
        row["presence"] = labels.presence
        row["masks"] = [_to_mask(mask) for mask in labels.masks]
    return row


def _to_mask(mask: LabelledMask) -> dict[str, Any]:
    x0, y0, x1, y1 = mask.box_xyxy
    return {
        "mask_id": mask.mask_id,
        "rle": mask.rle,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": mask.area,
        "predicted_iou": mask.predicted_iou,
        "stability_score": mask.stability_score,
        "point_coords": list(mask.point_coords),
        "class_id": mask.class_id,
        "class_name": mask.class_name,
        "score": mask.score,
        "uncertainty": mask.uncertainty,
        "agreement": mask.agreement,
    }


def _from_row(row: dict[str, Any], extents: Iterator[MaskExtent], sound: tuple[LabelledMask, ...] | None) -> ImageRow:
    """The record of a row; `sound` are its masks where they are known to make sense."""
    labels = None
    if row["image_id"] is None or row["uri"] is None:
        raise InputError("it names no image")
    if row["status"] not in ("ok", "error"):
        raise InputError(f"its status is {row['status']!r}")
    if row["status"] == "ok":
        size_hw = checked_size(row["height"], row["width"])
        if (sound is None and row["masks"] is None) or row["coverage"] is None:
            raise InputError("it has no masks, not even an empty list of them")
        check_numbers(row, ("coverage",), ("missed",))
        if sound is None:
            sound = tuple(_from_mask(mask, size_hw, next(extents)) for mask in row["masks"])
        labels = ImageLabels(size_hw, sound, row["coverage"], row["missed"], _presence(row["presence"]))
    return ImageRow(
        image_id=row["image_id"],
        uri=row["uri"],
        labels=labels,
        error=row["error"],
        content_sha256=row["content_sha256"],
        seconds=row["seconds"] or 0.0,
        member=read_member(row["member"]),
        file_size=row["file_size"],
        file_version=row["file_version"],
        dhash=row["dhash"],
    )


def _presence(values: Sequence[float | None] | None) -> tuple[float, ...] | None:
    if values is None:
        return None
    known = tuple(value for value in values if value is not None and 0.0 <= value <= 1.0)
    if len(known) != len(values):
        raise InputError(f"its presence is {list(values)}; each class has a number from 0 to 1")
    return known


def _from_mask(mask: dict[str, Any] | None, size_hw: tuple[int, int], extent: MaskExtent) -> LabelledMask:
    rle = checked_rle(mask, size_hw, extent)
    assert mask is not None
    for name in ("bbox", "area", "point_coords"):
        if mask[name] is None:
            raise InputError(f"a mask has no {name}")
    check_numbers(mask, ("stability_score", "score"), ("predicted_iou", "uncertainty", "agreement"))
    check_class(mask["class_id"], mask["class_name"])
    if mask["mask_id"] is not None and not is_mask_id(mask["mask_id"]):
        raise InputError(f"a mask has the id {mask['mask_id']!a}, not one of 24 hexadecimal digits")
    if len(mask["bbox"]) != 4 or None in mask["bbox"] or len(mask["point_coords"]) != 2:
        raise InputError(f"a mask has bbox {mask['bbox']} and point_coords {mask['point_coords']}")
    x, y, width, height = mask["bbox"]
    box = (x, y, x + width, y + height)
    if mask["area"] != extent.area or (extent.area and box != extent.box_xyxy):
        raise InputError(
            f"a mask has area {mask['area']} and bbox {mask['bbox']}, its counts have area {extent.area} and, as "
            f"(x0, y0, x1, y1), the box {extent.box_xyxy}"
        )
    point_x, point_y = mask["point_coords"]
    if None in (point_x, point_y) or not (isfinite(point_x) and isfinite(point_y)):
        raise InputError(f"a mask has the point {mask['point_coords']}")
    return LabelledMask(
        rle=rle,
        box_xyxy=box if extent.area else extent.box_xyxy,
        area=extent.area,
        predicted_iou=mask["predicted_iou"],
        stability_score=mask["stability_score"],
        point_coords=(point_x, point_y),
        score=mask["score"],
        class_id=mask["class_id"],
        class_name=mask["class_name"],
        uncertainty=mask["uncertainty"],
        agreement=mask["agreement"],
        mask_id=mask["mask_id"],
    )
