"""Parquet files with the bytes of images in a column, as Hugging Face writes them: `image` is `{bytes, path}`.

A row is reached by the file's footer and that column of one row group, up to the row.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from everymask.errors import EverymaskError, InputError
from everymask.files.parquet_bounds import checked_size, is_text, open_texts, short_texts
from everymask.files.storage import one_line
from everymask.images.decoding import ImageLimits
from everymask.images.sources.source import Found, Source
from everymask.records import Member

_ID_COLUMNS = ("image_id", "__key__", "id")
_ROWS = 16
_MOST_AT_ONCE_BYTES = 256 * 2**20
_DAMAGE = (pa.ArrowException, OSError, ValueError, InputError)


def image_column(schema: pa.Schema) -> str | None:
    """The column that holds the bytes of images: `image` before others; None where none or several could."""
    columns = [field.name for field in schema if _bytes_path(field) is not None]
    if "image" in columns:
        return "image"
    return columns[0] if len(columns) == 1 else None


def _bytes_path(field: pa.Field) -> str | None:
    """The path of a column's bytes inside the file; None where it holds none."""
    if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
        return str(field.name)
    if pa.types.is_struct(field.type) and any(_bytes_path(inner) == "bytes" for inner in field.type):
        return f"{field.name}.bytes"
    return None


def list_images(file: pa.NativeFile, name: str) -> Iterator[Found]:
    """Every row; its key is a column `image_id`, `__key__` or `id` of text, else the number of the row."""
    try:
        with open_texts(file, _ID_COLUMNS) as parquet:
            schema = parquet.schema_arrow
            column = image_column(schema)
            if column is None:
                columns = ", ".join(schema.names)
                yield Found("", error=f"no one column holds the bytes of images; the file has {columns}")
                return
            texts = [field.name for field in schema if is_text(field)]
            ids = next((one for one in _ID_COLUMNS if one in texts), None)
            keys = _text(parquet, ids) if ids else map(str, itertools.count())
            for row, key in zip(range(parquet.metadata.num_rows), keys, strict=False):
                yield Found(key or str(row), Member("row", column, row=row))
    except _DAMAGE as error:
        yield Found("", error=f"the file is no whole Parquet file ({one_line(error)})")


def _text(parquet: pq.ParquetFile, column: str) -> Iterator[str | None]:
    for batch in parquet.iter_batches(8192, columns=[column]):
        yield from short_texts(batch.column(0))


def read_images(file: pa.NativeFile, members: Sequence[Member], limits: ImageLimits) -> list[bytes | InputError]:
    """The bytes of rows; of those in one row group by one pass over its column."""
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
    path = str(_bytes_path(parquet.schema_arrow.field(column)))
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
