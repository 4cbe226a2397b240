"""Arrow files with the bytes of images in a column, as `Dataset.save_to_disk` of Hugging Face writes them.

They are uncompressed, so a row's bytes are one range of the file. Listing reads the file once, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everymask.errors import InputError
from everymask.files.storage import one_line
from everymask.images.sources.columns import ImageColumn, id_column_of, image_column
from everymask.images.sources.options import SourceOptions
from everymask.images.sources.ranges import read_ranges
from everymask.images.sources.source import Found, Source
from everymask.records import Member

_MAGIC = b"ARROW1\0\0"
_DAMAGE = (pa.ArrowException, OSError, EOFError, ValueError)


def list_images(file: pa.NativeFile, name: str, options: SourceOptions) -> Iterator[Found]:
    """Every row; its key is from the column of ids, else the number of the row."""
    row = 0
    try:
        for batch, start, body in _batches(file):
            column = image_column(batch.schema, options)
            ids = id_column_of(batch.schema, options)
            keys = batch.column(ids).to_pylist() if ids else [None] * batch.num_rows
            for key, found in zip(keys, _rows(batch, column, start, body), strict=True):
                yield Found(str(row) if key is None else str(key), **found)
                row += 1
        if not row:
            yield Found("", error="the file holds no row")
    except InputError as error:
        yield Found("", error=f"the file has {error}")
    except _DAMAGE as error:
        what = "is cut short or damaged" if row else "is no Arrow file"
        yield Found("", error=f"the file {what} ({one_line(error)})")


def _batches(file: pa.NativeFile) -> Iterator[tuple[pa.RecordBatch, int, pa.Buffer]]:
    """Each batch, with the place in the file where its body begins, and that body.

    Arrow's other kind of file is such a stream behind eight bytes.
    """
    file.seek(len(_MAGIC) if file.read_at(len(_MAGIC), 0) == _MAGIC else 0)
    messages = pa.ipc.MessageReader.open_stream(file)
    try:
        schema = pa.ipc.read_schema(messages.read_next_message())
    except StopIteration:
        raise EOFError("it is empty") from None
    for message in _all(messages):
        if message.type == "record batch":
            body = message.body
            yield pa.ipc.read_record_batch(message, schema), file.tell() - body.size, body
        elif message.type == "dictionary":
            raise InputError("columns in a dictionary, which are not read; save it without them")


def _all(messages: pa.ipc.MessageReader) -> Iterator[pa.ipc.Message]:
    while True:
        try:
            yield messages.read_next_message()
        except StopIteration:
            return


def _rows(batch: pa.RecordBatch, column: ImageColumn, start: int, body: pa.Buffer) -> Iterator[dict[str, Any]]:
    """The member, size or error of each row of a batch."""
    values = batch.column(column.name)
    if column.holds == "address":
        yield from (_address(value) for value in values.to_pylist())
        return
    paths: list[str | None] = [None] * batch.num_rows
    if column.holds == "struct":
        parts = dict(zip((inner.name for inner in values.type), values.flatten(), strict=True))
        if "path" in parts:
            paths = parts["path"].to_pylist()
        values = parts["bytes"]
    there = values.is_valid().to_pylist()
    places = _places(values, body) + start if any(there) else np.zeros(batch.num_rows + 1, np.int64)
    for index, path in enumerate(paths):
        if there[index]:
            size = int(places[index + 1] - places[index])
            yield {"member": Member("range", column.name, int(places[index]), size), "size": size}
        else:
            yield _address(path, "bytes")


def _address(value: str | None, what: str = "address") -> dict[str, Any]:
    return {"address": str(value)} if value else {"error": f"the row holds no {what}"}


def _places(values: pa.Array, body: pa.Buffer) -> NDArray[np.int64]:
    """(N + 1,) bounds of N rows' bytes, from the beginning of the body."""
    _, offsets, data = values.buffers()
    first = data.address - body.address if data is not None and data.size else 0
    if data is not None and not 0 <= first <= body.size - data.size:
        raise InputError("packed columns, of which no range is an image; save it without compression, or as Parquet")
    width = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    begin = values.offset
    return np.frombuffer(offsets, width)[begin : begin + len(values) + 1].astype(np.int64) + first


ARROW = Source("Arrow files of Hugging Face data sets", (".arrow",), ("range",), list_images, read_ranges)
