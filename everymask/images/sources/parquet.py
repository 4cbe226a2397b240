"""Parquet files with the bytes of images in a column, as Hugging Face writes them: `image` is `{bytes, path}`.

Reading a row takes the file's footer and that column of one row group, up to the row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from everymask.errors import EverymaskError, InputError
from everymask.files.parquet_bounds import checked_size, open_texts, short_texts
from everymask.files.storage import one_line
from everymask.images.decoding import ImageLimits
from everymask.images.sources.columns import ImageColumn, column_of, id_column_of, image_column
from everymask.images.sources.options import SourceOptions
from everymask.images.sources.source import Found, Source
from everymask.records import Member

_ROWS = 16
_MOST_AT_ONCE_BYTES = 256 * 2**20
_DAMAGE = (pa.ArrowException, OSError, ValueError, InputError)


def list_images(file: pa.NativeFile, name: str, options: SourceOptions) -> Iterator[Found]:
    """Every row; its key is from the column of ids, else the number of the row."""
    try:
        schema = pq.read_schema(file)
        column, ids = _columns(schema, options)
        with open_texts(file, [ids or "", column.name]) as parquet:
            keys = _text(parquet, ids) if ids else map(str, itertools.count())
            addresses = _addresses(parquet, column)
            for row, key in zip(range(parquet.metadata.num_rows), keys, strict=False):
                key = str(row) if key is None else key
                if addresses is None:
                    yield Found(key, Member("row", column.name, row=row))
                else:
                    address = next(addresses)
                    yield Found(key, address=address, error=None if address else "the row holds no address")
    except _ColumnError as error:
        yield Found("", error=f"the file has {error}")
    except _DAMAGE as error:
        yield Found("", error=f"the file is no whole Parquet file ({one_line(error)})")


class _ColumnError(InputError):
    """The table has no such column."""


def _columns(schema: pa.Schema, options: SourceOptions) -> tuple[ImageColumn, str | None]:
    try:
        return image_column(schema, options), id_column_of(schema, options)
    except InputError as error:
        raise _ColumnError(str(error)) from error


def _addresses(parquet: pq.ParquetFile, column: ImageColumn) -> Iterator[str | None] | None:
    """Addresses of the rows; None if the column holds bytes."""
    if column.holds == "address":
        return _text(parquet, column.name)
    if column.holds == "struct" and f"{column.name}.path" in _paths(parquet) and _has_no_bytes(parquet, column.path):
        return _text(parquet, f"{column.name}.path")
    return None


def _paths(parquet: pq.ParquetFile) -> list[str]:
    return [parquet.schema.column(index).path for index in range(len(parquet.schema))]


def _has_no_bytes(parquet: pq.ParquetFile, path: str) -> bool:
    """Whether every value of a column is null, by the file's footer."""
    index = _paths(parquet).index(path)
    groups = [parquet.metadata.row_group(group) for group in range(parquet.num_row_groups)]
    counts = [group.column(index).statistics for group in groups]
    return bool(groups) and all(
        found is not None and found.null_count == group.num_rows for found, group in zip(counts, groups, strict=True)
    )


def _text(parquet: pq.ParquetFile, path: str) -> Iterator[str | None]:
    for batch in parquet.iter_batches(8192, columns=[path]):
        values = batch.column(0)
        if pa.types.is_struct(values.type):
            values = values.field(0)
        yield from (None if value is None else str(value) for value in short_texts(values))


def read_images(file: pa.NativeFile, members: Sequence[Member], limits: ImageLimits) -> list[bytes | InputError]:
    """The bytes of rows; one pass over the column for all rows of a row group."""
    found: list[bytes | InputError] = [InputError("the file has no such row") for _ in members]
    try:
        with pq.ParquetFile(file) as parquet:
            starts = list(
                itertools.accumulate(
                    (parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)), initial=0
                )
            )
            for group, (first, after) in enumerate(itertools.pairwise(starts)):
                wanted = {
                    member.row - first: index
                    for index, member in enumerate(members)
                    if member.row is not None and first <= member.row < after
                }
                if wanted:
                    for row, data in _rows(parquet, group, str(members[0].name), frozenset(wanted), limits):
                        found[wanted[row]] = data
    except _DAMAGE as error:
        return [InputError(f"the file cannot be read as Parquet ({one_line(error)})") for _ in members]
    return found


def _rows(
    parquet: pq.ParquetFile, group: int, column: str, wanted: frozenset[int], limits: ImageLimits
) -> Iterator[tuple[int, bytes | InputError]]:
    found = column_of(parquet.schema_arrow.field(column))
    path = column if found is None else found.path
    # Every row may be the same value, as long as all of the column.
    at_once = min(max(_MOST_AT_ONCE_BYTES // max(checked_size(parquet, group, path), 1), 1), _ROWS)
    row = 0
    for batch in parquet.iter_batches(at_once, row_groups=[group], columns=[path]):
        values = batch.column(0)
        if pa.types.is_struct(values.type):
            values = values.field("bytes")
        for value in values:
            if row in wanted:
                yield row, _checked(value, limits)
            row += 1
        if row > max(wanted):
            return


def _checked(value: pa.Scalar, limits: ImageLimits) -> bytes | InputError:
    if not value.is_valid:
        return InputError("the row holds no bytes")
    try:
        limits.check_bytes(value.as_buffer().size)
    except EverymaskError as error:
        return InputError(str(error))
    return bytes(value.as_py())


PARQUET = Source("Parquet with the bytes of images", (".parquet",), ("row",), list_images, read_images)
