"""Rows of the label store as records, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from everymask.errors import InputError
from everymask.labels.schema import MAX_CLASSES, SCHEMA
from everymask.masks.rle import encoded_pixels
from everymask.records import ImageLabels, LabelledMask, Rle
from everymask.redaction import redact


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image of a run: its labels, or the sentence that says why it has none.

    Attributes:
        image_id: unique in the run, the uri relative to the input root.
        uri: where the image is; stored without the secrets of an address.
        labels: None exactly where `error` is not.
        error: one sentence.
        content_sha256: hex digest of the file's bytes, None where it could not be read.
        seconds: spent on decoding and labelling.
    """

    image_id: str
    uri: str
    labels: ImageLabels | None
    error: str | None = None
    content_sha256: str | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if (self.labels is None) == (self.error is None):
            raise ValueError(f"{self.image_id}: an image has either labels or an error")


def to_table(images: Iterable[LabelledImage]) -> pa.Table:
    """Rows of the label store (`SCHEMA`), in order."""
    return pa.Table.from_pylist([_to_row(image) for image in images], schema=SCHEMA)


def from_batch(batch: pa.RecordBatch | pa.Table, place: str = "the label store") -> list[LabelledImage]:
    """The records of some rows, in order.

    Args:
        batch: rows of `SCHEMA`.
        place: where they are from, for messages.

    Raises:
        InputError: a row makes no sense: it was written by something else, or altered.
    """
    images = []
    rows = batch.to_pylist()
    pixels = iter(_encoded_pixels(rows))
    for row in rows:
        try:
            images.append(_from_row(row, pixels))
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{place} holds a row that makes no sense, of image {row.get('image_id')!r}: {_reason(error)}; move "
                "the file out of the label store, and label its images again"
            ) from error
    return images


def _encoded_pixels(rows: list[dict[str, Any]]) -> list[int]:
    """What the encodings of all masks run over, in order: counting them one by one takes longer than reading."""
    masks = [mask for row in rows if row.get("status") == "ok" for mask in row.get("masks") or ()]
    rles = [mask["rle"] if mask else None for mask in masks]
    counts = [rle["counts"] if rle else None for rle in rles]
    found: list[int] = encoded_pixels([text or "" for text in counts]).tolist()
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error.args[0]}"
    return str(error)


def _to_row(image: LabelledImage) -> dict[str, Any]:
    labels = image.labels
    row: dict[str, Any] = {
        "image_id": image.image_id,
        "uri": redact(image.uri),
        "content_sha256": image.content_sha256,
        "seconds": image.seconds,
        "error": None if image.error is None else redact(image.error),
        "status": "error" if labels is None else "ok",
    }
    if labels is not None:
        row["height"], row["width"] = labels.size_hw
        row["coverage"] = labels.coverage
        row["missed"] = labels.missed
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


def _from_row(row: dict[str, Any], pixels: Iterator[int]) -> LabelledImage:
    labels = None
    if row["image_id"] is None or row["uri"] is None:
        raise InputError("it names no image")
    if row["status"] not in ("ok", "error"):
        raise InputError(f"its status is {row['status']!r}")
    if row["status"] == "ok":
        width, height = row["width"], row["height"]
        if not (width and height and width > 0 and height > 0):
            raise InputError(f"its image has {width} x {height} pixels")
        if row["masks"] is None or row["coverage"] is None:
            raise InputError("it has no masks, not even an empty list of them")
        masks = tuple(_from_mask(mask, (height, width), next(pixels)) for mask in row["masks"])
        labels = ImageLabels(size_hw=(height, width), masks=masks, coverage=row["coverage"], missed=row["missed"])
    seconds = row["seconds"] or 0.0
    return LabelledImage(row["image_id"], row["uri"], labels, row["error"], row["content_sha256"], seconds)


def _from_mask(mask: dict[str, Any] | None, size_hw: tuple[int, int], pixels: int) -> LabelledMask:
    if mask is None or mask["rle"] is None:
        raise InputError("a mask is null")
    for name in ("bbox", "area", "predicted_iou", "stability_score", "point_coords", "score"):
        if mask[name] is None:
            raise InputError(f"a mask has no {name}")
    class_id, class_name = mask["class_id"], mask["class_name"]
    if (class_id is None) != (class_name is None):
        raise InputError(f"a mask has class_id {class_id} and class_name {class_name!r}; one is missing")
    if class_id is not None and not 0 <= class_id < MAX_CLASSES:
        raise InputError(f"a mask has class_id {class_id}; class ids are in [0, {MAX_CLASSES})")
    rle = Rle(size=mask["rle"]["size"], counts=mask["rle"]["counts"])
    if rle["size"] != list(size_hw):
        raise InputError(f"a mask has size {rle['size']}, its image has [height, width] {list(size_hw)}")
    if pixels != size_hw[0] * size_hw[1]:
        raise InputError("a mask's counts are no run-length encoding of its image")
    x, y, width, height = mask["bbox"]
    point_x, point_y = mask["point_coords"]
    return LabelledMask(
        rle=rle,
        box_xyxy=(x, y, x + width, y + height),
        area=mask["area"],
        predicted_iou=mask["predicted_iou"],
        stability_score=mask["stability_score"],
        point_coords=(point_x, point_y),
        score=mask["score"],
        class_id=class_id,
        class_name=class_name,
        uncertainty=mask["uncertainty"],
        agreement=mask["agreement"],
        mask_id=mask["mask_id"],
    )
