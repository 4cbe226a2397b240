"""The log of corrections: files that are written once, each under a name that no other writer takes.

    STORE/corrections/log-<writer>-<number>.parquet   what one writer added: a step, or an import
    STORE/corrections/base-<32 hex>.parquet           logs that were put together
    STORE/corrections/import-<number>.parquet         imports of label store formats 1 to 3

A writer is one run of a program for one person. What it has added is on the disk, or in the bucket, when the call
returns. docs/decisions/store-format-4.md says why it is done this way.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from everymask.errors import ConfigurationError, EverymaskError, InputError
from everymask.files.json_text import parse_json
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.correction import ACTIONS, OUTLINES, CorrectedMask, ImageCorrection
from everymask.labels.correction_history import CorrectionHistory, on_top
from everymask.labels.members import read_member
from everymask.labels.rows import MaskExtent, check_numbers, checked_rle, is_mask_id, mask_extents
from everymask.labels.schema import MEMBER, RLE
from everymask.labels.store import LabelStore
from everymask.masks.checked import check_class, checked_size

FORMAT_VERSION = 2
"""Format version of a file of corrections. Version 1 had no entry ids, bases, undos or addresses; its entries are in
order."""

_MASK = pa.struct(
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

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("member", MEMBER),
        pa.field("content_sha256", pa.string()),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("tool", pa.string(), nullable=False),  # the format it came back in
        pa.field("annotator", pa.string()),
        pa.field("corrected_at", pa.string()),  # as the tool says, ISO 8601
        pa.field("imported_at", pa.string(), nullable=False),  # UTC, ISO 8601
        pa.field("entry_id", pa.string(), nullable=False),
        pa.field("bases", pa.list_(pa.string()), nullable=False),
        pa.field("undoes", pa.string()),
        pa.field("masks", pa.list_(_MASK), nullable=False),
        # Of each mask; null where all are outlines. Beside the masks, so that older readers pass over it.
        pa.field("drawn_as", pa.list_(pa.string())),
    ]
)
"""A file of corrections: one entry a row."""

_RELISTINGS = 5
_IN_FIRST_FORMAT = frozenset(SCHEMA.names) - {"uri", "member", "entry_id", "bases", "undoes", "drawn_as"}
_OPTIONAL = frozenset({"drawn_as"})


class CorrectionConflictError(EverymaskError):
    """Somebody else has corrected the image in between.

    `image_id` is the image, `theirs` the entries that count now, the latest last.
    """

    def __init__(self, image_id: str, theirs: Sequence[ImageCorrection]) -> None:
        self.image_id = image_id
        self.theirs = tuple(theirs)
        who = self.theirs[-1].annotator or "somebody else" if self.theirs else "somebody else"
        super().__init__(
            f"{image_id} was corrected by {who} in between; look at what stands there now, then decide. Nothing was "
            "overwritten"
        )


class CorrectionLog:
    """One writer of a store's log, with what it has read so far.

    `annotator` is whom it writes for, None if unknown; `history` holds every entry read.
    """

    def __init__(self, store: LabelStore, annotator: str | None = None) -> None:
        self._store = store
        self._writer = _writer_of(annotator)
        self._written = 0
        self._read: set[str] = set()
        self.history = CorrectionHistory()

    def for_annotator(self, annotator: str) -> CorrectionLog:
        """A writer for another person that shares what was read."""
        other = copy(self)
        other._writer, other._written = _writer_of(annotator), 0
        return other

    def refresh(self) -> CorrectionHistory:
        """Read files added since the last time.

        Raises:
            InputError: a file of corrections is damaged.
            ConfigurationError: it is of a newer format.
        """
        for _ in range(_RELISTINGS):
            try:
                for file in _files(self._store):
                    if file.name not in self._read:
                        self.history.add(_read(file))
                        self._read.add(file.name)
                return self.history
            except FileNotFoundError:  # it was put together with others after it was listed
                continue
        raise InputError(f"{self._store.corrections} changes faster than it can be read; try again")

    def append(self, corrections: Sequence[ImageCorrection]) -> str:
        """Add entries, all or none, durably; returns their file's path.

        `corrections` has at least one entry, each based on the entries that were seen when it was made.

        Raises:
            CorrectionConflictError: another entry counts for one of the images now; nothing was added.
            InputError, ConfigurationError: the log cannot be read.
            OutputError: the store is not writable.
        """
        self.refresh()
        for correction in corrections:
            heads = self.history.heads(correction.image_id)
            if {head.entry_id for head in heads} - set(correction.bases):
                raise CorrectionConflictError(correction.image_id, heads)
        return self.keep(corrections)

    def add_import(self, corrections: Sequence[ImageCorrection]) -> str:
        """Add entries based on what was last read, all or none; entries made in between stay beside them as a conflict.

        Raises:
            OutputError: the store is not writable.
        """
        return self.keep([on_top(entry, self.history.heads(entry.image_id)) for entry in corrections])

    def keep(self, corrections: Sequence[ImageCorrection]) -> str:
        """Add entries unchanged, whatever counts now. Raises as `add_import`."""
        file = self._store.corrections.child(f"log-{self._writer}-{self._written:06d}.parquet")
        _write(file, corrections)
        self._written += 1
        self._read.add(file.name)
        self.history.add(corrections)
        return file.path


def write_corrections(store: LabelStore, corrections: Sequence[ImageCorrection]) -> str:
    """Add corrections of the current labels, all or none; returns the file's path.

    Raises:
        InputError, ConfigurationError: the log cannot be read.
        OutputError: the store is not writable.
    """
    log = CorrectionLog(store, corrections[0].annotator if corrections else None)
    log.refresh()
    return log.add_import(corrections)


def read_history(store: LabelStore) -> CorrectionHistory:
    """Every entry of the log. Raises as `CorrectionLog.refresh`."""
    return CorrectionLog(store).refresh()


def read_corrections(store: LabelStore) -> dict[str, ImageCorrection]:
    """The entry that counts for each corrected image, by image id. Raises as `CorrectionLog.refresh`."""
    return read_history(store).current()


def has_corrections(store: LabelStore) -> bool:
    return bool(_files(store))


def compact(store: LabelStore) -> str | None:
    """Merge the log's files into one and delete them; None if there is nothing to merge.

    Every entry stays. If killed in between, entries stand twice, which has no effect. Imports of older formats stay.

    Raises:
        InputError, ConfigurationError: the log cannot be read.
        OutputError: the store is not writable.
    """
    return rewrite_log(store, [file for file in _files(store) if not _is_import(file)], frozenset())


def erase_corrections(store: LabelStore, image_ids: frozenset[str]) -> int:
    """Drop every entry of some images, older formats included; returns the number of rewritten files. Raises as
    `compact`."""
    holding = [file for file in _files(store) if any(entry.image_id in image_ids for entry in _read(file))]
    for file in holding:
        rewrite_log(store, [file], image_ids, even_one=True)
    return len(holding)


def rewrite_log(
    store: LabelStore, files: Sequence[Location], without: frozenset[str], even_one: bool = False
) -> str | None:
    """Merge files into a new one, without the entries of some images, and delete the files."""
    if len(files) < 2 and not even_one:
        return None
    history = CorrectionHistory()
    for file in files:
        history.add(_read(file))
    entries = [entry for image_id, found in history.entries.items() if image_id not in without for entry in found]
    target = store.corrections.child(f"base-{uuid.uuid4().hex}.parquet")
    if entries:
        _write(target, entries)
    for file in files:
        file.delete()
    return target.path


def _files(store: LabelStore) -> list[Location]:
    return [file for file in store.corrections.entries() if file.name.endswith(".parquet") and file.name[0] != "."]


def _is_import(file: Location) -> bool:
    return file.name.startswith("import-")


def _write(file: Location, corrections: Sequence[ImageCorrection]) -> None:
    table = pa.Table.from_pylist([_to_row(correction) for correction in corrections], schema=SCHEMA)
    metadata = {b"everymask": json.dumps({"corrections": FORMAT_VERSION})}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd", write_page_checksum=True)
    file.write(sink.getvalue())


def _to_row(correction: ImageCorrection) -> dict[str, Any]:
    row = asdict(correction)
    row["height"], row["width"] = row.pop("size_hw")
    drawn = [mask.pop("drawn_as") for mask in row["masks"]]
    row["drawn_as"] = drawn if any(drawn) else None
    return row


def _read(file: Location) -> list[ImageCorrection]:
    try:
        with file.open() as stream:
            table = pq.read_table(stream, page_checksum_verification=True)
        version = int(parse_json((table.schema.metadata or {})[b"everymask"])["corrections"])
        if version > FORMAT_VERSION:
            raise ConfigurationError(f"{file} is of a newer format; upgrade everymask to read it")
        return _from_table(table, file.name, version)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, InputError) as error:
        reason = f"it has no {error.args[0]}" if isinstance(error, KeyError) else one_line(error)
        raise InputError(f"{file} is damaged ({reason}); restore it, or move it away to do without it") from error


def _from_table(table: pa.Table, name: str, version: int) -> list[ImageCorrection]:
    """Entries of an untrusted file's rows.

    Raises:
        InputError, KeyError, TypeError, ValueError: a row is invalid.
    """
    expected = SCHEMA.names if version > 1 else [name for name in SCHEMA.names if name in _IN_FIRST_FORMAT]
    table = table.select([name for name in expected if name in table.column_names or name not in _OPTIONAL])
    rows = table.to_pylist()
    if version == 1:
        rows = [{**row, **_first_format(name, row["image_id"])} for row in rows]
    extents = mask_extents((mask, row["height"]) for row in rows for mask in row["masks"])
    return [_from_row(row, extents) for row in rows]


def _first_format(name: str, image_id: str) -> dict[str, Any]:
    """The fields missing from imports of the first format: each is based on the import with the number before, whether
    that one holds the image or not."""
    number = int(name.removeprefix("import-").removesuffix(".parquet"))
    earlier = [_first_entry_id(before, image_id) for before in range(number)]
    return {
        "uri": None,
        "member": None,
        "entry_id": _first_entry_id(number, image_id),
        "bases": earlier,
        "undoes": None,
    }


def _first_entry_id(number: int, image_id: str) -> str:
    return _digest(f"{number} {image_id}")[:32]


def _writer_of(annotator: str | None) -> str:
    return f"{_digest(annotator or '')[:8]}-{uuid.uuid4().hex[:12]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _from_row(row: dict[str, Any], extents: Iterator[MaskExtent]) -> ImageCorrection:
    size_hw = checked_size(row.pop("height"), row.pop("width"))
    if None in (row["image_id"], row["tool"], row["imported_at"], row["entry_id"], row["bases"]):
        raise InputError("a row names no image, no tool, no time or no entry")
    drawn = row.pop("drawn_as", None) or [None] * len(row["masks"])
    masks = tuple(
        _from_mask(mask, size_hw, next(extents), shape) for mask, shape in zip(row["masks"], drawn, strict=True)
    )
    changed = {"masks": masks, "size_hw": size_hw, "bases": tuple(row["bases"]), "member": read_member(row["member"])}
    return ImageCorrection(**row | changed)


def _from_mask(
    mask: dict[str, Any] | None, size_hw: tuple[int, int], extent: MaskExtent, drawn_as: Any
) -> CorrectedMask:
    rle = checked_rle(mask, size_hw, extent)
    assert mask is not None
    if mask["action"] not in (*ACTIONS, "kept"):
        raise InputError(f"a mask was {mask['action']!r}, not one of {', '.join(ACTIONS)}")
    if not is_mask_id(mask["mask_id"]) or not (mask["parent_id"] is None or is_mask_id(mask["parent_id"])):
        raise InputError(f"a mask has the ids {mask['mask_id']!a} and {mask['parent_id']!a}")
    if drawn_as is not None and drawn_as not in OUTLINES:
        raise InputError(f"a mask was drawn as {drawn_as!a}, not one of {', '.join(OUTLINES)}")
    check_class(mask["class_id"], mask["class_name"])
    check_numbers(mask, (), ("iou",))
    return CorrectedMask(**mask | {"rle": rle, "drawn_as": drawn_as})
