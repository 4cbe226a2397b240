"""What people made of labels: kept beside them, never instead of them.

    STORE/corrections/*.parquet   one file for each import, rows of `SCHEMA`, one row for each image a person finished

A row says what became of every mask of its image. Of several rows for one image the one of the latest import counts.
Labels themselves stay as the model made them: `labelled_images` lays the corrections over them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from everymask.errors import ConfigurationError, InputError
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.rows import LabelledImage, MaskExtent, check_numbers, checked_rle, is_mask_id, mask_extents
from everymask.labels.schema import RLE
from everymask.labels.store import LabelStore
from everymask.masks.checked import check_class, checked_size
from everymask.masks.rle import boxes_from_rles, rle_areas
from everymask.masks.runs import crop_of
from everymask.records import ImageLabels, LabelledMask, Rle

FORMAT_VERSION = 1
Action = Literal["confirmed", "edited", "relabelled", "deleted", "added"]
ACTIONS: tuple[Action, ...] = ("confirmed", "edited", "relabelled", "deleted", "added")

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string()),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("tool", pa.string(), nullable=False),  # the format it came back in
        pa.field("annotator", pa.string()),
        pa.field("corrected_at", pa.string()),  # as the tool says, ISO 8601
        pa.field("imported_at", pa.string(), nullable=False),  # UTC, ISO 8601
        pa.field(
            "masks",
            pa.list_(
                pa.struct(
                    [
                        pa.field("action", pa.string()),
                        pa.field("mask_id", pa.string()),
                        pa.field("parent_id", pa.string()),  # the machine's mask; null for an added one
                        pa.field("rle", RLE),  # of a deleted mask: what it was
                        pa.field("class_id", pa.int32()),
                        pa.field("class_name", pa.string()),
                        pa.field("iou", pa.float64()),  # with the parent, null for an added one
                    ]
                )
            ),
            nullable=False,
        ),
    ]
)


@dataclass(frozen=True)
class CorrectedMask:
    """What became of one mask.

    Attributes:
        action: confirmed (as it was), edited (another outline, perhaps another class), relabelled (another class),
            deleted, or added.
        mask_id: 24 hexadecimal digits; that of the parent where the outline did not change.
        parent_id: the machine's mask; None for an added one.
        rle: the mask; of a deleted one, what it was.
        class_id: index into the class list, None for entities.
        class_name: None for entities.
        iou: with the parent, [0, 1]; None for an added one.
    """

    action: Action
    mask_id: str
    parent_id: str | None
    rle: Rle
    class_id: int | None
    class_name: str | None
    iou: float | None


@dataclass(frozen=True)
class ImageCorrection:
    """A person's word on one image: all of its masks. None is a word, too.

    Attributes:
        image_id: the image's id in the store.
        content_sha256: digest of the image that was labelled.
        size_hw: (height, width) in pixels.
        tool: the format it came back in.
        annotator: who, as the tool says.
        corrected_at: when, as the tool says, ISO 8601.
        imported_at: UTC, ISO 8601.
        masks: deleted ones included.
    """

    image_id: str
    content_sha256: str | None
    size_hw: tuple[int, int]
    tool: str
    annotator: str | None
    corrected_at: str | None
    imported_at: str
    masks: tuple[CorrectedMask, ...]

    def count(self, action: Action) -> int:
        """How many masks this became of."""
        return sum(mask.action == action for mask in self.masks)

    @property
    def changed(self) -> bool:
        """Whether anything is not as the model left it."""
        return any(mask.action != "confirmed" for mask in self.masks)


def write_corrections(store: LabelStore, corrections: Sequence[ImageCorrection]) -> str:
    """Add the corrections of one import, all or none; returns the file's path.

    Raises:
        OutputError: the store is not writable.
    """
    number = len(_files(store))
    file = store.corrections.child(f"import-{number:06d}.parquet")
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([_to_row(correction) for correction in corrections], schema=SCHEMA)
    metadata = {b"everymask": json.dumps({"corrections": FORMAT_VERSION})}
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    file.write(sink.getvalue())
    return file.path


def read_corrections(store: LabelStore) -> dict[str, ImageCorrection]:
    """The latest correction of every corrected image, by image id.

    Raises:
        InputError: a file of corrections is damaged.
        ConfigurationError: it is of a newer format.
    """
    found: dict[str, ImageCorrection] = {}
    for file in _files(store):
        try:
            table = pq.read_table(file.path, filesystem=file.filesystem, partitioning=None)
            version = int(json.loads((table.schema.metadata or {})[b"everymask"])["corrections"])
            if version > FORMAT_VERSION:
                raise ConfigurationError(f"{file} is of a newer format; upgrade everymask to read it")
            found |= {correction.image_id: correction for correction in _from_table(table)}
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, InputError) as error:
            reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) else one_line(error)
            raise InputError(f"{file} is damaged ({reason}); restore it, or move it away to do without it") from error
    return found


def has_corrections(store: LabelStore) -> bool:
    """Whether people have corrected anything."""
    return bool(_files(store))


def delete_corrections(store: LabelStore) -> None:
    """Delete every correction: the labels they were made for go, too."""
    for file in _files(store):
        file.delete()


def corrected(image: LabelledImage, corrections: dict[str, ImageCorrection]) -> LabelledImage:
    """An image as people left it; itself where they did not look at it."""
    correction = corrections.get(image.image_id)
    if correction is None or image.labels is None or correction.size_hw != image.labels.size_hw:
        return image
    return replace(image, labels=_apply(image.labels, correction))


def labelled_images(
    store: LabelStore, corrections: bool = True, batch_size: int = 16
) -> Iterator[tuple[LabelledImage, ImageLabels]]:
    """Images of the store that have labels, streaming, as people left them.

    Args:
        store: the label store.
        corrections: False gives the labels as the model made them.
        batch_size: rows read at a time.

    Raises:
        InputError: there is no label store, or it is damaged.
    """
    known = read_corrections(store) if corrections else {}
    for image in store.images(batch_size):
        seen = corrected(image, known)
        if seen.labels is not None:
            yield seen, seen.labels


def _apply(labels: ImageLabels, correction: ImageCorrection) -> ImageLabels:
    machine = {mask.mask_id: mask for mask in labels.masks}
    masks = [
        _labelled(mask, machine.get(mask.parent_id) if mask.parent_id else None)
        for mask in correction.masks
        if mask.action != "deleted"
    ]
    height, width = labels.size_hw
    if not correction.changed:
        coverage = labels.coverage
    else:  # overlaps apart, as good as the union
        coverage = min(1.0, sum(mask.area for mask in masks) / (height * width))
    ranked = sorted(masks, key=lambda mask: mask.score, reverse=True)
    # A finished image misses nothing.
    return ImageLabels(labels.size_hw, tuple(ranked), coverage, None if labels.missed is None else 0.0)


def _labelled(mask: CorrectedMask, parent: LabelledMask | None) -> LabelledMask:
    """A mask that a person has approved: its score is 1, and nobody is uncertain about its class."""
    if parent is not None and mask.action in ("confirmed", "relabelled"):
        kept = parent
    else:
        (box,), (area,) = boxes_from_rles([mask.rle]).tolist(), rle_areas([mask.rle]).tolist()
        x0, y0, x1, y1 = box
        kept = LabelledMask(mask.rle, (x0, y0, x1, y1), area, 1.0, 1.0, _a_pixel(mask.rle, (x0, y0, x1, y1)), 1.0)
    return replace(
        kept,
        mask_id=mask.mask_id,
        score=1.0,
        class_id=mask.class_id,
        class_name=mask.class_name,
        uncertainty=None if mask.class_id is None else 0.0,
    )


def _a_pixel(rle: Rle, box: tuple[int, int, int, int]) -> tuple[float, float]:
    """The centre (x, y) of some pixel of a mask; (0, 0) for an empty one."""
    crop = crop_of(rle, box)
    if not crop.any():
        return 0.0, 0.0
    y, x = divmod(int(crop.ravel().argmax()), crop.shape[1])
    return box[0] + x + 0.5, box[1] + y + 0.5


def _files(store: LabelStore) -> list[Location]:
    return [file for file in store.corrections.entries() if file.name.endswith(".parquet") and file.name[0] != "."]


def _to_row(correction: ImageCorrection) -> dict[str, Any]:
    height, width = correction.size_hw
    names = ("image_id", "content_sha256", "tool", "annotator", "corrected_at", "imported_at")
    row: dict[str, Any] = {name: getattr(correction, name) for name in names}
    masks = [{name: getattr(mask, name) for name in CorrectedMask.__dataclass_fields__} for mask in correction.masks]
    return row | {"height": height, "width": width, "masks": masks}


def _from_table(table: pa.Table) -> list[ImageCorrection]:
    """Rows of a file that anyone may have written.

    Raises:
        InputError, KeyError, TypeError, ValueError: one makes no sense.
    """
    rows = table.to_pylist()
    extents = mask_extents((mask, row["height"]) for row in rows for mask in row["masks"])
    return [_from_row(row, extents) for row in rows]


def _from_row(row: dict[str, Any], extents: Iterator[MaskExtent]) -> ImageCorrection:
    size_hw = checked_size(row.pop("height"), row.pop("width"))
    if None in (row["image_id"], row["tool"], row["imported_at"]):
        raise InputError("a row names no image, no tool or no time")
    masks = tuple(_from_mask(mask, size_hw, next(extents)) for mask in row["masks"])
    return ImageCorrection(**row | {"masks": masks, "size_hw": size_hw})


def _from_mask(mask: dict[str, Any] | None, size_hw: tuple[int, int], extent: MaskExtent) -> CorrectedMask:
    rle = checked_rle(mask, size_hw, extent)
    assert mask is not None
    if mask["action"] not in ACTIONS:
        raise InputError(f"a mask was {mask['action']!r}, not one of {', '.join(ACTIONS)}")
    if not is_mask_id(mask["mask_id"]) or not (mask["parent_id"] is None or is_mask_id(mask["parent_id"])):
        raise InputError(f"a mask has the ids {mask['mask_id']!a} and {mask['parent_id']!a}")
    check_class(mask["class_id"], mask["class_name"])
    check_numbers(mask, (), ("iou",))
    return CorrectedMask(**mask | {"rle": rle})
