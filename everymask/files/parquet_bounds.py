"""Parquet files that anyone may have written: what they unpack to is looked at before it is unpacked.

A page of a few kilobytes can hold gigabytes of one byte, and a column can name one long value for each of its rows.
A file that also lies about the size of its columns is caught by nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from everymask.errors import InputError

_MOST_TEXT_BYTES = 2**16
_ALWAYS_FINE_BYTES = 256 * 2**20
_MOST_TIMES = 16
"""Images hardly shrink; labels and text by less than this, where they are large (our choice)."""


def open_texts(file: pa.NativeFile, columns: Sequence[str]) -> pq.ParquetFile:
    """A Parquet file of which `short_texts` reads some columns of text, if it has them."""
    schema = pq.read_schema(file)
    return pq.ParquetFile(
        file, read_dictionary=[field.name for field in schema if field.name in columns and is_text(field)]
    )


def is_text(field: pa.Field) -> bool:
    """Whether a column holds text, however it is read."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def checked_size(parquet: pq.ParquetFile, group: int, path: str) -> int:
    """What a column of a row group unpacks to, in bytes, as the file says.

    Raises:
        InputError: it is out of all proportion to the file.
    """
    row_group = parquet.metadata.row_group(group)
    chunks = [row_group.column(number) for number in range(row_group.num_columns)]
    mine = [chunk for chunk in chunks if f"{chunk.path_in_schema}.".startswith(f"{path}.")]
    size = sum(chunk.total_uncompressed_size for chunk in mine)
    packed = sum(chunk.total_compressed_size for chunk in mine)
    if size < 0 or size > max(_ALWAYS_FINE_BYTES, _MOST_TIMES * packed):
        raise InputError(f"its column {path} says that {packed:,} bytes unpack to {size:,}, which no images do")
    return int(size)


def short_texts(column: Any) -> list[str | None]:
    """Values of a column of a file that `open_texts` has opened.

    Raises:
        InputError: one of them is longer than any address.
    """
    if pa.types.is_dictionary(column.type):
        longest = pc.max(pc.binary_length(column.dictionary)).as_py() if len(column.dictionary) else 0
        if longest > _MOST_TEXT_BYTES:
            raise InputError(f"a text of {longest:,} bytes, more than {_MOST_TEXT_BYTES:,}")
        column = column.dictionary_decode()
    values: list[str | None] = column.to_pylist()
    return values
