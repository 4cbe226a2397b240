"""Corrected images laid over the index: people's corrections replace what the model found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from browse.segments import SCHEMA, Segment
from everymask.labels.correction import ImageCorrection
from everymask.labels.corrections import corrected, is_stale
from everymask.labels.doubt import image_doubt
from everymask.labels.facts import NO_CLASS
from everymask.labels.rows import ImageRow
from everymask.records import ImageLabels

BEGUN, FINISHED, CHANGED, CONFLICT, STALE = (np.uint8(1 << bit) for bit in range(5))
"""What people did to an image; a stale correction is of another file, and not shown."""


NO_PART = -1
"""Part number of images whose row is lost."""


@dataclass(frozen=True)
class Corrected:
    """One image as people left it.

    Attributes:
        position: in the index.
        entry: the log entry that counts.
        flags: of the above.
        labels: what is shown; None for a stale correction.
    """

    position: int
    entry: ImageCorrection
    flags: np.uint8
    labels: ImageLabels | None

    @property
    def at(self) -> float:
        """When it was kept, in seconds since 1970."""
        try:
            moment = datetime.fromisoformat(self.entry.imported_at)
        except ValueError:
            return 0.0
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def as_left(
    position: int, entry: ImageCorrection, conflict: bool, row: ImageRow | None, digest: str | None
) -> Corrected:
    """An image as an entry left it.

    Args:
        position: in the index.
        entry: the one that counts.
        conflict: whether other entries contradict it.
        row: the image's row; None if it is lost, or not needed because every mask was judged.
        digest: of the image's file, as in the row.
    """
    judged = not entry.masks or any(mask.action != "kept" for mask in entry.masks)
    flags = FINISHED if entry.finished else BEGUN * np.uint8(judged)
    flags |= CHANGED * np.uint8(entry.changed) | CONFLICT * np.uint8(conflict)
    if is_stale(entry, digest):
        return Corrected(position, entry, flags | STALE, None)
    stand_in = ImageRow(entry.image_id, entry.uri or "", ImageLabels(entry.size_hw, (), 0.0), None, digest)
    return Corrected(position, entry, flags, corrected(row or stand_in, {entry.image_id: entry}).labels)


@dataclass(frozen=True)
class Layer:
    """Corrected images as a segment.

    Attributes:
        segment: one row for each; part and row numbers are the index's.
        positions: (K,) places of the images in the index.
    """

    segment: Segment
    positions: NDArray[np.int64]


def make_layer(images: Sequence[Corrected]) -> Layer:
    """A layer of the images that are not stale."""
    shown = [image for image in images if image.labels is not None]
    rows = [_row(image, image.labels) for image in shown if image.labels is not None]
    columns = {name: [row[name] for row in rows] for name in SCHEMA.names}
    table = pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
    positions = np.array([image.position for image in shown], dtype=np.int64)
    return Layer(Segment(table.combine_chunks(), (), {}), positions)


def _row(image: Corrected, labels: ImageLabels) -> dict[str, object]:
    height, width = labels.size_hw
    finished = bool(image.flags & FINISHED)
    return {
        "image_id": image.entry.image_id,
        "part": 0,
        "row": 0,
        "failed": 0,
        "error": None,
        "width": width,
        "height": height,
        "content_sha256": image.entry.content_sha256,
        "coverage": labels.coverage,
        "doubt": 0.0 if finished else image_doubt(labels),
        "lowest": min((mask.score for mask in labels.masks), default=1.0),
        "masks": [
            {
                "class_id": NO_CLASS if mask.class_id is None else mask.class_id,
                "score": mask.score,
                "area": mask.area / (height * width),
            }
            for mask in labels.masks
        ],
    }


def topmost(layers: Iterable[Layer], images: int) -> NDArray[np.int8]:
    """(images,) number of the layer that shows each image, from 1; 0 for the index itself."""
    top = np.zeros(images, dtype=np.int8)
    for number, layer in enumerate(layers, start=1):
        top[layer.positions] = number
    return top


def lost_images(entries: Iterable[ImageCorrection]) -> Segment:
    """Corrected images missing from the index, without masks; a layer shows their corrections."""
    rows = [
        {**_row(Corrected(0, replace(entry, masks=()), FINISHED, empty), empty), "part": NO_PART}
        for entry in entries
        for empty in (ImageLabels(entry.size_hw, (), 0.0),)
    ]
    columns = {name: [row[name] for row in rows] for name in SCHEMA.names}
    table = pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
    return Segment(table.combine_chunks(), (), {})
