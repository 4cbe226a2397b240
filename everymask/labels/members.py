"""The column `member` as a record."""

from __future__ import annotations

from typing import Any

from everymask.errors import InputError
from everymask.records import Member

_NEEDED = {
    "range": ("offset", "size"),
    "scan": ("offset", "size"),
    "row": ("name", "row"),
    "frame": ("milliseconds",),
    "page": ("page",),
}


def read_member(fields: dict[str, Any] | None) -> Member | None:
    """A value of the column; None if the image is the whole file.

    Raises:
        InputError: it does not locate the image in the file.
    """
    if fields is None:
        return None
    needed = _NEEDED.get(fields["kind"])
    if needed is None or any(fields[name] is None or (name != "name" and fields[name] < 0) for name in needed):
        raise InputError(f"its member {fields} says of no place in a file")
    return Member(**fields)
