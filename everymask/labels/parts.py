"""One part of a label store: a self-describing Parquet file of `SCHEMA`.

Its metadata hold, as JSON, the format, counts of its contents, the run's configuration, and a digest of these. Pages
have checksums. So damage is noticed when the damaged place is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pds
import pyarrow.parquet as pq

from everymask.errors import ConfigurationError, InputError
from everymask.files.json_text import parse_json
from everymask.files.location import Location
from everymask.files.storage import one_line
from everymask.labels.schema import ADDED_IN, FORMAT_VERSION, OPTIONAL, SCHEMA, stored_schema
from everymask.wording import counted

_METADATA_KEY = b"everymask"
_FIRST_WITH_DIGEST = 2
_ROWS_TOGETHER = 256
"""Rows packed together, all of which are read to get one image."""
_COUNTED = ["status", "seconds"]
# What reading damaged bytes raises, by where the damage is.
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, MemoryError)
_CHECKED = pds.ParquetFileFormat(
    default_fragment_scan_options=pds.ParquetFragmentScanOptions(page_checksum_verification=True)
)

T = TypeVar("T")
Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


class DamagedPartError(InputError):
    """A part's bytes differ from what was written."""


class ForeignPartError(InputError):
    """A Parquet file that is not a label store's part."""


class MissingPartError(InputError):
    """A part that no longer exists."""


@dataclass(frozen=True)
class PartSummary:
    """Contents of one or more parts.

    Attributes:
        images: rows.
        errors: rows with status `error`.
        masks: masks in all rows.
        seconds: spent on all rows, summed over workers.
    """

    images: int = 0
    errors: int = 0
    masks: int = 0
    seconds: float = 0.0

    def __add__(self, other: PartSummary) -> PartSummary:
        return PartSummary(
            self.images + other.images,
            self.errors + other.errors,
            self.masks + other.masks,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class PartHeader:
    """A part's description of itself.

    Attributes:
        configuration: of the run that wrote it; None in format 1.
        format: its format version.
        optional: the columns of `OPTIONAL` that it has.
    """

    summary: PartSummary
    configuration: dict[str, Any] | None
    format: int
    optional: tuple[str, ...] = ()


def write_part(file: Location, rows: pa.Table, configuration: Mapping[str, Any]) -> PartSummary:
    """Write rows of `SCHEMA` as a part, atomically; OutputError if the place is full or not writable."""
    summary = _summarise(rows)
    sink = pa.BufferOutputStream()
    method = configuration.get("method")
    filled = [name for name, by in OPTIONAL.items() if by == method or rows[name].null_count < rows.num_rows]
    schema = stored_schema(filled)
    table = rows.select(schema.names).cast(schema).replace_schema_metadata(_metadata(summary, configuration))
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, row_group_size=_ROWS_TOGETHER)
    file.write(sink.getvalue())
    return summary


def copy_rows(
    file: Location,
    parts: Sequence[Location],
    keep: Sequence[Sequence[bool]] | None = None,
    change: Callable[[pa.Table], pa.Table] | None = None,
) -> tuple[PartSummary, int]:
    """Write a part with other parts' rows, atomically, holding a few thousand rows and the file's bytes.

    Args:
        file: the new part; may be one of `parts`.
        parts: of one run.
        keep: for each part, for each of its rows; None for all.
        change: applied to tables of kept rows.

    Returns the new part's summary and its number of bytes.

    Raises:
        DamagedPartError, ForeignPartError, MissingPartError: as `read_header`.
        OutputError: the place is full or not writable.
    """
    headers = [read_header(part) for part in parts]
    masks = None if keep is None else [pa.array(rows, pa.bool_()) for rows in keep]
    if masks is None:
        summary = sum((header.summary for header in headers), PartSummary())
    else:
        counted = (read_mask_columns(part, _COUNTED, ["area"]) for part in parts)
        summary = sum((_summarise(rows.filter(mask)) for rows, mask in zip(counted, masks, strict=True)), PartSummary())
    sink = pa.BufferOutputStream()
    columns = stored_schema({name for header in headers for name in header.optional})
    schema = columns.with_metadata(_metadata(summary, headers[0].configuration or {}))
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True) as writer:
        for rows in _gathered(parts, masks):
            rows = change(rows) if change else rows
            writer.write_table(rows.select(columns.names).cast(columns), row_group_size=_ROWS_TOGETHER)
    data = sink.getvalue()
    file.write(data)
    return summary, data.size


def _gathered(parts: Sequence[Location], masks: Sequence[pa.Array] | None) -> Iterator[pa.Table]:
    """The kept rows of parts, some thousand at a time."""
    waiting: list[pa.RecordBatch] = []
    for number, part in enumerate(parts):
        start = 0
        for batch in read_batches(part, None, _ROWS_TOGETHER):
            after = start + batch.num_rows
            kept = batch if masks is None else batch.filter(masks[number][start:after])
            start = after
            waiting.append(kept)
            if sum(one.num_rows for one in waiting) >= _ROWS_TOGETHER:
                yield pa.Table.from_batches(waiting, SCHEMA)
                waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting, SCHEMA)


def _metadata(summary: PartSummary, configuration: Mapping[str, Any]) -> dict[bytes, str]:
    content = {"format": FORMAT_VERSION, **asdict(summary), "configuration": dict(configuration)}
    return {_METADATA_KEY: json.dumps({**content, "sha256": _digest(content)})}


def read_header(file: Location) -> PartHeader:
    """A part's header, read from the end of the file.

    Raises:
        DamagedPartError: its bytes differ from what was written.
        ForeignPartError: everymask did not write it, or it lacks a column.
        MissingPartError: it is gone.
        ConfigurationError: it has a newer format.
        InputError: the storage does not answer.
    """
    schema, num_rows = _checked(file, _read_footer)
    metadata = schema.metadata or {}
    if _METADATA_KEY not in metadata:
        raise ForeignPartError(f"{file} was not written by everymask; move it out of the label store")
    try:
        content = parse_json(metadata[_METADATA_KEY])
        version = int(content["format"])
        images, errors, masks = (int(content[name]) for name in ("images", "errors", "masks"))
        summary = PartSummary(images, errors, masks, float(content["seconds"]))
        configuration = content.get("configuration")
        if not isinstance(configuration, dict | None):
            raise TypeError("its configuration is no JSON object")
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(file, error) from error
    if version > FORMAT_VERSION:
        raise ConfigurationError(
            f"{file} has format {version}; this everymask reads up to {FORMAT_VERSION}: upgrade it"
        )
    if version >= _FIRST_WITH_DIGEST and content.pop("sha256", None) != _digest(content):
        raise damaged(file, ValueError("its metadata do not fit their digest"))
    if num_rows != summary.images:
        raise damaged(file, ValueError(f"it has {counted(num_rows, 'row')}, but should have {summary.images:,}"))
    optional = tuple(name for name in OPTIONAL if name in schema.names)
    needed = [name for name in stored_schema().names if version >= ADDED_IN.get(name, 1)]
    missing = [name for name in needed if name not in schema.names]
    if missing:
        raise ForeignPartError(f"{file} has no column {', '.join(missing)}; move it out of the label store")
    # A later release may have columns that this one does not know; they are passed over.
    known = pa.schema([field for field in schema if field.name in SCHEMA.names])
    if version == FORMAT_VERSION and not known.equals(stored_schema(optional)):
        raise damaged(file, ValueError("its columns are not those of its format"))
    return PartHeader(summary, configuration, version, optional)


def read_columns(file: Location, columns: list[str]) -> pa.Table:
    """Some columns of a part, null if its format lacks them. Raises as `read_header`, except ConfigurationError."""

    def read(stream: pa.NativeFile) -> pa.Table:
        with pq.ParquetFile(stream, page_checksum_verification=True) as part:
            there = [name for name in columns if name in part.schema_arrow.names or name not in ADDED_IN]
            return _sound(part.read(there))

    return _with_all(_checked(file, read), columns)


def read_mask_columns(file: Location, columns: list[str], of_masks: Sequence[str]) -> pa.Table:
    """Some columns of a part, and `masks` with some fields only, so that outlines, most of a part, stay unread.

    Raises as `read_columns`.
    """

    def read(stream: pa.NativeFile) -> pa.Table:
        with pq.ParquetFile(stream, page_checksum_verification=True) as part:
            paths = [part.metadata.schema.column(i).path for i in range(part.metadata.num_columns)]
            wanted = [path for path in paths if path.startswith("masks.") and path.split(".", 3)[-1] in of_masks]
            return _sound(part.read([*(name for name in columns if name in part.schema_arrow.names), *wanted]))

    return _with_all(_checked(file, read), [*columns, "masks"])


def read_rows(file: Location, rows: Sequence[int]) -> pa.Table:
    """Some rows of a part, by number and in that order, reading few others.

    Raises:
        IndexError: the part has no such row.
        InputError, ConfigurationError: as `read_header`.
    """

    numbers = np.asarray(rows, dtype=np.int64)

    def read(stream: pa.NativeFile) -> pa.Table:
        with pq.ParquetFile(stream, page_checksum_verification=True) as part:
            starts = np.cumsum([0, *(part.metadata.row_group(i).num_rows for i in range(part.num_row_groups))])
            if numbers.size and not (numbers.min() >= 0 and numbers.max() < starts[-1]):
                raise IndexError(f"{file} has no row {numbers.max()}")
            group = np.searchsorted(starts, numbers, side="right") - 1
            groups = np.unique(group)
            there = [name for name in SCHEMA.names if name in part.schema_arrow.names]
            found = _sound(part.read_row_groups(groups.tolist(), columns=there))
            before = np.cumsum([0, *np.diff(starts)[groups]])[np.searchsorted(groups, group)]
            places = numbers - starts[group] + before
            if places.size and (np.diff(places) == 1).all():  # as exports read them; nothing is copied
                return found.slice(int(places[0]), places.size)
            return found.take(places)

    read_header(file)
    return _with_all(_checked(file, read), SCHEMA.names).cast(SCHEMA)


def _with_all(table: pa.Table, columns: list[str]) -> pa.Table:
    """The columns in this order, null if an older format lacks them."""
    for name in columns:
        if name not in table.schema.names:
            table = table.append_column(SCHEMA.field(name), pa.nulls(table.num_rows, SCHEMA.field(name).type))
    return table.select(columns)


def read_batches(file: Location, columns: list[str] | None, batch_size: int) -> Iterator[pa.RecordBatch]:
    """A part's rows, streaming, with null for columns that its format lacks. Raises as `read_header`."""
    read_header(file)
    try:
        dataset = pds.dataset([file.path], schema=SCHEMA, format=_CHECKED, filesystem=file.filesystem)
        batches = dataset.to_batches(columns=columns, batch_size=batch_size, batch_readahead=1, fragment_readahead=1)
        yield from map(_sound, batches)
    except FileNotFoundError as error:
        raise _missing(file) from error
    except _DAMAGE as error:
        verify(file)
        raise InputError(f"{file} cannot be read ({one_line(error)})") from error


def verify(file: Location) -> None:
    """Read every page of a part. Raises as `read_header`."""
    read_header(file)
    _checked(file, lambda stream: _sound(pq.read_table(stream, page_checksum_verification=True)))


def _sound(rows: Rows) -> Rows:
    """The rows. Raises ArrowInvalid where text is no UTF-8 or a list leads outside: Arrow believes a file in both."""
    rows.validate(full=True)
    return rows


def damaged(file: Location, error: Exception) -> DamagedPartError:
    """The error for a damaged part, with its remedy."""
    return DamagedPartError(
        f"{file} is damaged ({one_line(error)}); `everymask label --verify` moves it aside and labels its images again"
    )


def _missing(file: Location) -> MissingPartError:
    return MissingPartError(
        f"{file} is gone: a run has replaced it, or somebody deleted it; read again, and if it is still missing, "
        "`everymask label --verify` labels its images again"
    )


def _read_footer(stream: pa.NativeFile) -> tuple[pa.Schema, int]:
    file = pq.ParquetFile(stream)
    return file.schema_arrow, file.metadata.num_rows


def _checked(file: Location, read: Callable[[pa.NativeFile], T]) -> T:
    """The result of `read`, distinguishing a silent storage from damage."""
    try:
        with file.open() as stream:
            return read(stream)
    except FileNotFoundError as error:
        raise _missing(file) from error
    except _DAMAGE:
        # Both raise OSError, a storage that fails and a page that is damaged. Bytes in hand tell them apart.
        try:
            content = file.read()
        except FileNotFoundError as error:
            raise _missing(file) from error
        except OSError as error:
            raise InputError(
                f"{file} cannot be read ({one_line(error)}); try again when the storage answers"
            ) from error
    try:
        return read(pa.BufferReader(content))
    except _DAMAGE as error:
        raise damaged(file, error) from error


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _summarise(rows: pa.Table) -> PartSummary:
    return PartSummary(
        images=rows.num_rows,
        errors=pc.sum(pc.equal(rows["status"], "error")).as_py() or 0,
        masks=pc.sum(pc.list_value_length(rows["masks"])).as_py() or 0,
        seconds=round(pc.sum(rows["seconds"]).as_py() or 0.0, 3),
    )
