"""Rows of the label store as records, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from everymask.labels.schema import SCHEMA
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


def from_batch(batch: pa.RecordBatch | pa.Table) -> list[LabelledImage]:
    """The records of some rows, in order."""
    return [_from_row(row) for row in batch.to_pylist()]


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


def _from_row(row: dict[str, Any]) -> LabelledImage:
    labels = None
    if row["status"] == "ok":
        labels = ImageLabels(
            size_hw=(row["height"], row["width"]),
            masks=tuple(_from_mask(mask) for mask in row["masks"]),
            coverage=row["coverage"],
        )
    return LabelledImage(row["image_id"], row["uri"], labels, row["error"], row["content_sha256"], row["seconds"])


def _from_mask(mask: dict[str, Any]) -> LabelledMask:
    x, y, width, height = mask["bbox"]
    point_x, point_y = mask["point_coords"]
    return LabelledMask(
        rle=Rle(size=mask["rle"]["size"], counts=mask["rle"]["counts"]),
        box_xyxy=(x, y, x + width, y + height),
        area=mask["area"],
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
