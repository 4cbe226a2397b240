"""Columns of many images for filters and orders, in one Arrow file that is mapped into memory.

Outlines, and whatever only one image's page shows, are read from the label store when needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everymask.files.durable import write_file
from everymask.labels.facts import NO_CLASS, PartFacts, column_or_nan
from everymask.labels.rows import ImageRow

OF_IMAGES = ("error", "width", "height", "content_sha256", "coverage")
"""Columns of images that `of_part` needs, besides those always in facts."""

_MASK = pa.struct(
    [
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("area", pa.float32(), nullable=False),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("failed", pa.uint8(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("content_sha256", pa.string()),
        pa.field("coverage", pa.float32(), nullable=False),
        pa.field("doubt", pa.float32(), nullable=False),
        pa.field("lowest", pa.float32(), nullable=False),
        pa.field("masks", pa.list_(pa.field("item", _MASK, nullable=False)), nullable=False),
    ]
)
"""Images of a segment. `part` numbers the segment's parts, `row` the rows of that part; `lowest` is the least score of
a mask, 1 without any; areas are shares of the image. Numbers have 32 bits."""


@dataclass(frozen=True)
class Segment:
    """Some images, in a fixed order.

    Attributes:
        table: rows of `SCHEMA`, in one chunk.
        parts: names of the parts, by number.
        class_names: names by class id.
    """

    table: pa.Table
    parts: tuple[str, ...]
    class_names: Mapping[int, str]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def image_ids(self) -> pa.Array:
        return self._column("image_id")

    @cached_property
    def bounds(self) -> NDArray[np.int64]:
        """(N + 1,); image i has masks `bounds[i]` to `bounds[i + 1]`."""
        return np.asarray(self._column("masks").offsets, dtype=np.int64)

    @cached_property
    def class_ids(self) -> NDArray[np.int32]:
        """(M,) class ids of masks, -1 for entities."""
        return self._of_masks("class_id").astype(np.int32, copy=False)

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """(M,) scores of masks."""
        return self._of_masks("score").astype(np.float32, copy=False)

    @cached_property
    def areas(self) -> NDArray[np.float32]:
        """(M,) areas of masks, as shares of their images."""
        return self._of_masks("area").astype(np.float32, copy=False)

    def numbers(self, name: str) -> NDArray[np.float32]:
        """(N,) a numeric column."""
        values: NDArray[np.float32] = self._column(name).to_numpy(zero_copy_only=False)
        return values

    def has(self, row: int, image: ImageRow) -> bool:
        """Whether an image is as it was when this was read: of this id, with these classes and scores."""
        masks = image.labels.masks if image.labels else ()
        known = slice(int(self.bounds[row]), int(self.bounds[row + 1]))
        scores = np.array([mask.score for mask in masks], dtype=np.float32)
        classes = [NO_CLASS if mask.class_id is None else mask.class_id for mask in masks]
        same_id: bool = image.image_id == self.image_ids[row].as_py()
        return same_id and np.array_equal(self.scores[known], scores) and self.class_ids[known].tolist() == classes

    def without(self, gone: set[str]) -> Segment:
        """The images of parts other than `gone`."""
        numbers = [number for number, name in enumerate(self.parts) if name in gone]
        keep = pc.invert(pc.is_in(self.table["part"], value_set=pa.array(numbers, pa.int32())))
        left = self.table.filter(keep)
        return Segment(left.combine_chunks(), self.parts, self.class_names)

    def _column(self, name: str) -> pa.Array:
        column = self.table[name]
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    def _of_masks(self, name: str) -> NDArray[Any]:
        values: NDArray[Any] = self._column("masks").values.field(name).to_numpy()
        return values


def of_part(facts: PartFacts, name: str) -> Segment:
    images, counts = facts.images, facts.counts
    size = len(counts)
    sides = {side: images[side].cast(pa.int32()) for side in ("width", "height")}
    pixels = column_or_nan(sides["width"]) * column_or_nan(sides["height"])
    lowest = np.ones(size)
    having = counts > 0
    if having.any():
        lowest[having] = np.minimum.reduceat(facts.scores, facts.bounds[:-1][having])
    share = facts.areas / np.repeat(np.where(pixels > 0, pixels, np.inf), counts)
    masks = pa.StructArray.from_arrays(
        [pa.array(facts.class_ids), _float32(facts.scores), _float32(share)], fields=list(_MASK)
    )
    columns = {
        "image_id": images["image_id"],
        "part": pa.array(np.zeros(size, dtype=np.int32)),
        "row": pa.array(np.arange(size, dtype=np.int32)),
        "failed": pa.array(facts.failed.astype(np.uint8)),
        "error": images["error"],
        **sides,
        "content_sha256": images["content_sha256"],
        "coverage": _float32(np.nan_to_num(column_or_nan(images["coverage"]), nan=0.0).clip(0.0, 1.0)),
        "doubt": _float32(facts.image_doubts()),
        "lowest": _float32(lowest),
        "masks": pa.ListArray.from_arrays(pa.array(facts.bounds.astype(np.int32)), masks),
    }
    table = pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA)
    return Segment(table.combine_chunks(), (name,), facts.class_names)


def joined(segments: Sequence[Segment]) -> Segment:
    """The images of some segments, in order."""
    tables = []
    parts: list[str] = []
    names: dict[int, str] = {}
    for segment in segments:
        numbers = pc.add(segment.table["part"], len(parts)).cast(pa.int32())
        tables.append(segment.table.set_column(1, SCHEMA.field("part"), numbers))
        parts += segment.parts
        names.update(segment.class_names)
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    return Segment(table.combine_chunks(), tuple(parts), names)


def write_segment(segment: Segment, path: Path) -> None:
    """Write a segment atomically; OSError if the place is full or not writable."""
    metadata = {
        b"parts": json.dumps(segment.parts).encode(),
        b"classes": json.dumps(segment.class_names).encode(),
    }
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, segment.table.schema.with_metadata(metadata)) as writer:
        writer.write_table(segment.table.replace_schema_metadata(metadata))
    write_file(str(path), memoryview(sink.getvalue()))


def read_segment(path: Path) -> Segment:
    """A kept segment, mapped into memory.

    Raises:
        OSError: it is missing.
        ValueError: not a segment, or of another version of everymask.
    """
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    metadata = table.schema.metadata or {}
    if not table.schema.equals(SCHEMA) or b"parts" not in metadata or table["image_id"].num_chunks > 1:
        raise ValueError(f"{path} is no segment of this version")
    names = {int(key): name for key, name in json.loads(metadata[b"classes"]).items()}
    return Segment(table, tuple(json.loads(metadata[b"parts"])), names)


def _float32(values: NDArray[np.float64]) -> pa.Array:
    largest = np.finfo(np.float32).max
    return pa.array(values.clip(-largest, largest).astype(np.float32))
