"""The columns of a table that hold images or their addresses, and their names: found, or named by the user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from everymask.errors import InputError
from everymask.images.sources.options import SourceOptions

ADDRESS_COLUMNS = ("uri", "image", "image_url", "url")
"""Names of a column of addresses, in order of preference."""
ID_COLUMNS = ("image_id", "__key__", "id")
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """The column of images.

    Attributes:
        name: of the column.
        holds: bytes; `bytes` in a struct, as Hugging Face writes them, perhaps with `path`; or an address.
    """

    name: str
    holds: Literal["bytes", "struct", "address"]

    @property
    def path(self) -> str:
        """Path of the values inside the file."""
        return f"{self.name}.bytes" if self.holds == "struct" else self.name


def image_column(schema: pa.Schema, options: SourceOptions) -> ImageColumn:
    """The column of images: bytes before addresses, `image` before others.

    Raises:
        InputError: none or several could be it, or the named one is not there or holds something else.
    """
    columns = {field.name: found for field in schema if (found := column_of(field)) is not None}
    if options.column is not None:
        check_named("column", options.column, schema.names)
        if options.column not in columns:
            kind = schema.field(options.column).type
            raise InputError(f"a column {options.column} of {kind}, neither bytes nor addresses of images")
        return columns[options.column]
    addresses = [name for name, column in columns.items() if column.holds == "address"]
    if "uri" in addresses:
        return columns["uri"]
    with_bytes = [name for name, column in columns.items() if column.holds != "address"]
    if "image" in with_bytes or len(with_bytes) == 1:
        return columns["image" if "image" in with_bytes else with_bytes[0]]
    if len(with_bytes) > 1:
        raise InputError(f"several columns of bytes, {_listed(with_bytes)}; say which with --column")
    return columns[address_column(addresses, options, schema.names)]


def address_column(names: Iterable[str], options: SourceOptions, there: Sequence[str] | None = None) -> str:
    """The column of addresses.

    Args:
        names: columns that may be it.
        options: the user's.
        there: all columns of the table, if there are more.

    Raises:
        InputError: none or several could be it, or the named one is missing.
    """
    names = list(names)
    there = names if there is None else there
    if options.column is not None:
        check_named("column", options.column, there)
        return options.column
    found = [name for name in ADDRESS_COLUMNS if name in names]
    if "uri" in found or len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"several columns of addresses, {_listed(found)}; say which with --column")
    raise InputError(f"no one column of images or their addresses, only {_listed(there)}; say which with --column")


def id_column(names: Sequence[str], options: SourceOptions, there: Sequence[str] | None = None) -> str | None:
    """The column that names images, or None.

    Args:
        names: columns that may be it.
        options: the user's.
        there: all columns of the table, if there are more.

    Raises:
        InputError: the named one is missing.
    """
    if options.id_column is not None:
        check_named("id column", options.id_column, names if there is None else there)
        return options.id_column
    return next((name for name in ID_COLUMNS if name in names), None)


def id_column_of(schema: pa.Schema, options: SourceOptions) -> str | None:
    """As `id_column`, for a table with typed columns: only text names images, unless the user names a column."""
    return id_column([field.name for field in schema if is_text(field.type)], options, schema.names)


def check_named(what: str, name: str, there: Sequence[str]) -> None:
    """InputError if a column that the user named is missing; lists the existing ones."""
    if name not in there:
        raise InputError(f"no {what} {name}, only {_listed(there)}")


def column_of(field: pa.Field) -> ImageColumn | None:
    """The images that a column holds, or None."""
    if _is_bytes(field.type):
        return ImageColumn(field.name, "bytes")
    if pa.types.is_struct(field.type) and any(inner.name == "bytes" and _is_bytes(inner.type) for inner in field.type):
        return ImageColumn(field.name, "struct")
    return ImageColumn(field.name, "address") if is_text(field.type) else None


def is_text(kind: pa.DataType) -> bool:
    """Whether values are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(map(str, names[:_SHOWN])) + more
