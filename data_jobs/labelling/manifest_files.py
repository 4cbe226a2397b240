"""Manifests: tables that name images, as Parquet, CSV or JSON lines, packed or not, and Amazon's S3 Inventory."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, cast
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from everymask.errors import ConfigurationError, InputError
from everymask.files.addresses import AddressPolicy
from everymask.files.json_text import parse_json
from everymask.files.parquet_bounds import open_texts, short_texts
from everymask.files.storage import is_remote, one_line, resolve, split_query
from everymask.files.text_lines import bounded_lines
from everymask.images.decoding import IMAGE_SUFFIXES
from everymask.images.sources.columns import address_column, id_column, image_column
from everymask.images.sources.options import DEFAULT_OPTIONS, SourceOptions

LIST_SUFFIXES = (".txt", ".lst")
TABLE_SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
INVENTORY_NAME = "manifest.json"
_ROWS = 8192
_DAMAGE = (pa.ArrowException, OSError, EOFError, ValueError, KeyError, TypeError, csv.Error, InputError)
# Columns of an inventory, by their names in its CSV and its Parquet files without case and underscores.
_TEXTS = ("bucket", "key", "e_tag")
_INVENTORY = ("bucket", "key", "size", "etag", "islatest", "isdeletemarker")


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One row of a manifest.

    Attributes:
        uri: path or address, relative ones to the manifest's folder.
        image_id: None where the manifest gives none.
        size: bytes, where it says.
        etag: where it says.
    """

    uri: str
    image_id: str | None = None
    size: int | None = None
    etag: str | None = None


def read_rows(location: str, options: SourceOptions = DEFAULT_OPTIONS) -> Iterator[ManifestRow]:
    """The rows of a manifest, streaming.

    Raises:
        ConfigurationError: it is damaged, has no column of addresses, or a row without one; or it is an inventory whose
            files lie where a stranger's content may not lead.
    """
    name = split_query(location)[0].lower() if is_remote(location) else location.lower()
    try:
        if PurePosixPath(name).name == INVENTORY_NAME:
            yield from _inventory(location)
            return
        rows = _parquet(location, options) if name.endswith(".parquet") else _text_rows(location, name)
        yield from _named(rows, location, options)
    except _DAMAGE as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else one_line(error)
        raise ConfigurationError(f"the manifest {location} cannot be read ({reason}); make it again") from error


def is_manifest(base: str, filesystem: pafs.FileSystem, path: str, options: SourceOptions = DEFAULT_OPTIONS) -> bool:
    """Whether a file, whose address without a query is `base`, is a table that names images."""
    if base.lower().endswith(".parquet"):
        return not _holds_bytes(filesystem, path, options)
    return base.lower().endswith(TABLE_SUFFIXES) or PurePosixPath(base).name == INVENTORY_NAME


def _holds_bytes(filesystem: pafs.FileSystem, path: str, options: SourceOptions) -> bool:
    """Whether a Parquet file has the bytes of images, and no column `uri` that would make it a manifest."""
    try:
        with filesystem.open_input_file(path) as file:
            return image_column(pq.read_schema(file), options).holds != "address"
    except (InputError, pa.ArrowException, OSError):
        return False


def list_digest(location: str) -> str | None:
    """The sha256 of a file that names images, by which an unchanged list is known; None for other inputs.

    Raises:
        ConfigurationError: the input cannot be read.
    """
    base = split_query(location)[0] if is_remote(location) else location
    try:
        filesystem, path = resolve(location)
        if filesystem.get_file_info(path).type != pafs.FileType.File:
            return None
        if not (base.lower().endswith(LIST_SUFFIXES) or is_manifest(base, filesystem, path)):
            return None
        with filesystem.open_input_stream(path, compression=None) as stream:
            return hashlib.file_digest(io.BufferedReader(stream), "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"the input {location} cannot be opened ({one_line(error)})") from error


def _named(rows: Iterator[Mapping[str, Any]], location: str, options: SourceOptions) -> Iterator[ManifestRow]:
    """The columns that count, as the first row has them.

    Raises:
        ConfigurationError: there is no such column, or a row has no address.
    """
    columns: tuple[str, str | None] | None = None
    for row in rows:
        if columns is None:
            columns = _columns(list(row), location, options)
        address, name = row.get(columns[0]), row.get(columns[1] or "image_id")
        if not address:
            raise ConfigurationError(f"the manifest {location} has a row without a {columns[0]}")
        yield ManifestRow(_text_of(address), None if name is None else _text_of(name))


def _columns(names: list[str], location: str, options: SourceOptions) -> tuple[str, str | None]:
    """The columns of addresses and of ids.

    A manifest's images keep their paths for ids unless it has `image_id`, or the user names a column.

    Raises:
        ConfigurationError: there is none, or several could be it.
    """
    try:
        ids = id_column([name for name in names if name == "image_id"], options, names)
        return address_column(names, options), ids
    except InputError as error:
        raise ConfigurationError(f"the manifest {location} has {error}") from error


def _parquet(location: str, options: SourceOptions) -> Iterator[dict[str, Any]]:
    filesystem, path = resolve(location)
    with filesystem.open_input_file(path) as file:
        columns = [name for name in _columns(pq.read_schema(file).names, location, options) if name is not None]
        with open_texts(file, columns) as table:
            for batch in table.iter_batches(batch_size=_ROWS, columns=columns):
                for row in zip(*map(short_texts, batch.columns), strict=True):
                    yield dict(zip(batch.schema.names, row, strict=True))


def _text_rows(location: str, name: str) -> Iterator[Mapping[str, Any]]:
    with _text(*resolve(location), packed=name.endswith(".gz")) as lines:
        if ".csv" in PurePosixPath(name).suffixes:
            yield from csv.DictReader(bounded_lines(lines))
            return
        for line in bounded_lines(lines):
            if line.strip():
                row = parse_json(line)
                if not isinstance(row, dict):
                    raise ConfigurationError(f"the manifest {location} has a line that is no JSON object")
                yield row


def _text_of(value: Any) -> str:
    """A value as a label store can hold it: JSON may have half a character, which is none."""
    return str(value).encode("utf-8", "backslashreplace").decode()


@contextmanager
def _text(filesystem: pafs.FileSystem, path: str, packed: bool) -> Iterator[IO[str]]:
    with filesystem.open_input_stream(path, compression=None) as stream:
        raw = cast(IO[bytes], io.BufferedReader(stream))
        data = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
        yield io.TextIOWrapper(data, encoding="utf-8-sig", newline="")


def _inventory(location: str) -> Iterator[ManifestRow]:
    """Images of an S3 Inventory, named by its manifest.json; other objects are passed over."""
    filesystem, path = resolve(location)
    with filesystem.open_input_stream(path) as stream:
        content = parse_json(bytes(stream.read()))
    if not isinstance(content, dict) or not {"fileFormat", "files", "destinationBucket"} <= content.keys():
        raise ConfigurationError(
            f"{location} is no manifest of an S3 Inventory: it has no fileFormat, files or destinationBucket"
        )
    query = split_query(location)[1] if is_remote(location) else ""
    schema = [column.strip() for column in str(content.get("fileSchema", "")).split(",")]
    policy = AddressPolicy.for_input(location)
    for item in content["files"]:
        place = _data_file(location, content, str(item["key"]))
        policy.check(place)
        for row in _inventory_rows(place, content["fileFormat"], schema):
            dead = row.get("islatest") in ("false", False) or row.get("isdeletemarker") in ("true", True)
            key = str(row["key"])
            if not dead and PurePosixPath(key).suffix.lower() in IMAGE_SUFFIXES:
                yield ManifestRow(f"s3://{row['bucket']}/{key}{query}", key, _size_of(row), row.get("etag") or None)


def _data_file(location: str, content: Mapping[str, Any], key: str) -> str:
    """Where a file of the inventory is: in its bucket, or for a manifest that was downloaded, beside it."""
    if is_remote(location):
        bucket = str(content["destinationBucket"]).rpartition(":")[2]
        return f"s3://{bucket}/{key}{split_query(location)[1]}"
    return str(PurePosixPath(location).parent / PurePosixPath(key).name)


def _size_of(row: Mapping[str, Any]) -> int | None:
    if row.get("size") in (None, ""):
        return None
    size = int(row["size"])
    if not 0 <= size < 2**63:
        raise ValueError(f"an object of {size} bytes")
    return size


def _inventory_rows(place: str, kind: str, schema: list[str]) -> Iterator[dict[str, Any]]:
    filesystem, path = resolve(place)
    if kind == "CSV":
        with _text(filesystem, path, packed=path.endswith(".gz")) as lines:
            for values in csv.reader(bounded_lines(lines)):
                row = {_plain(name): value for name, value in zip(schema, values, strict=False)}
                yield {**row, "key": unquote_plus(row["key"])}
        return
    if kind != "Parquet":
        raise ConfigurationError(f"the inventory is {kind}; let S3 write it as CSV or Parquet")
    with filesystem.open_input_file(path) as file, open_texts(file, _TEXTS) as table:
        columns = [name for name in table.schema_arrow.names if _plain(name) in _INVENTORY]
        for batch in table.iter_batches(batch_size=_ROWS, columns=columns):
            names = [_plain(name) for name in batch.schema.names]
            for found in zip(*map(short_texts, batch.columns), strict=True):
                yield dict(zip(names, found, strict=True))


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
