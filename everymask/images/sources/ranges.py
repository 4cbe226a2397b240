"""Members that are ranges of a file's bytes: neighbours are read together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import pyarrow as pa

from everymask.errors import EverymaskError, InputError
from everymask.images.decoding import ImageLimits
from everymask.records import Member

_MOST_AT_ONCE_BYTES = 64 * 2**20
_MOST_BETWEEN_BYTES = 2**20


def read_ranges(file: pa.NativeFile, members: Sequence[Member], limits: ImageLimits) -> list[bytes | InputError]:
    """The bytes of members of kind `range`, in the order they were asked for."""
    found, order = refused(members, limits)
    # A file of this machine gives each as fast by itself, without a copy.
    alone = isinstance(file, pa.OSFile)
    for span in ([index] for index in order) if alone else _spans(order, members):
        start, end = _extent(members[span[0]])[0], _extent(members[span[-1]])[1]
        data = file.read_at(end - start, start)
        for index in span:
            begin, after = _extent(members[index])
            found[index] = whole(data if alone else data[begin - start : after - start], members[index])
    return found


def refused(members: Sequence[Member], limits: ImageLimits) -> tuple[list[bytes | InputError], list[int]]:
    """A place for each member, with an error if it is too large, and the indices of the others by their offset."""
    found: list[bytes | InputError] = [InputError("")] * len(members)
    order = []
    for index, member in enumerate(members):
        try:
            limits.check_bytes(member.size or 0)
            order.append(index)
        except EverymaskError as error:
            found[index] = cast(InputError, error)
    return found, sorted(order, key=lambda index: members[index].offset or 0)


def whole(data: bytes, member: Member) -> bytes | InputError:
    """The bytes, or an error if some are missing."""
    if len(data) != member.size:
        return InputError(f"the file is cut short in {member.name!r}; put the whole of it back")
    return data


def _spans(order: Sequence[int], members: Sequence[Member]) -> Iterator[list[int]]:
    """Indices of members to read together."""
    span: list[int] = []
    first = last = 0
    for index in order:
        start, end = _extent(members[index])
        if span and (start - last > _MOST_BETWEEN_BYTES or end - first > _MOST_AT_ONCE_BYTES):
            yield span
            span = []
        if not span:
            first = start
        span.append(index)
        last = end
    if span:
        yield span


def _extent(member: Member) -> tuple[int, int]:
    start = member.offset or 0
    return start, start + (member.size or 0)
