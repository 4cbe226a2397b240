"""Headers of tars as nearly all are, read several times faster than `tarfile` does; it reads the others.

A header is a block of 512 bytes (POSIX.1-2017, pax, "ustar Interchange Format").
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol, cast

BLOCK = tarfile.BLOCKSIZE
_NAME, _SIZE, _CHECKSUM, _MAGIC, _PREFIX = slice(0, 100), slice(124, 136), slice(148, 156), slice(257, 262), 345
_TYPE = 156
_FILE, _EXTENDED = b"0\0", ord("x")
_MOST_EXTENDED_BYTES = 4096
# What an extended header may say without a change of what is read.
_IDLE = (b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname", b"comment")


class NoEndError(tarfile.TarError):
    """What follows the last member is not the end."""


class Headers(Protocol):
    """A file of which headers are read, with a bound on their bytes for each member."""

    def begin(self) -> None: ...

    def read(self, size: int) -> bytes: ...

    def seek(self, position: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A member: its name, where its bytes begin, their number, and whether it is a plain file."""

    name: str
    offset: int
    size: int
    is_file: bool


def entries(file: Headers) -> Iterator[Entry]:
    """The members of a tar, in order.

    Raises:
        tarfile.TarError: it is none, it is damaged, or it is cut short, maybe after members that were given.
        NoEndError: (one of them) only its end is not as it should be.
        OSError, ValueError: as reading the file does.
    """
    position = 0
    while True:
        file.begin()
        file.seek(position)
        header = file.read(BLOCK)
        if header.count(0) == BLOCK:
            return
        entry = _plain(file, header, position)
        if entry is None:
            break
        yield entry
        position = entry.offset + -(-entry.size // BLOCK) * BLOCK
    file.begin()
    file.seek(position)
    yield from _by_tarfile(file)


def _plain(file: Headers, header: bytes, position: int) -> Entry | None:
    """The member of a header that was read here; None if it is not a plain file of a short name."""
    if len(header) == BLOCK and header[_TYPE] == _EXTENDED:
        size = _size(header)
        if size is None or size > _MOST_EXTENDED_BYTES or not _is_idle(file.read(-(-size // BLOCK) * BLOCK)[:size]):
            return None
        position += BLOCK + -(-size // BLOCK) * BLOCK
        header = file.read(BLOCK)
    if len(header) != BLOCK or header[_TYPE] not in _FILE or header[_PREFIX]:
        return None
    size, name = _size(header), header[_NAME].partition(b"\0")[0]
    if size is None or not name or name.endswith(b"/"):
        return None
    # A name that is not UTF-8 becomes one that a label store can hold.
    return Entry(name.decode("utf-8", "backslashreplace"), position + BLOCK, size, is_file=True)


def _size(header: bytes) -> int | None:
    """The size in a sound header; None where it is written in another way, or the checksum does not fit."""
    try:
        size, checksum = (int(header[field].partition(b"\0")[0], 8) for field in (_SIZE, _CHECKSUM))
    except ValueError:
        return None
    sound = header[_MAGIC] == b"ustar" and sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ") == checksum
    return size if sound and size >= 0 else None


def _is_idle(records: bytes) -> bool:
    """Whether an extended header, of records `LENGTH KEY=VALUE`, changes nothing that is read."""
    while records:
        length, _, rest = records.partition(b" ")
        if (
            not length.isdigit()
            or not 0 < int(length) <= len(records)
            or records[int(length) - 1 : int(length)] != b"\n"
        ):
            return False
        if rest.partition(b"=")[0] not in _IDLE:
            return False
        records = records[int(length) :]
    return True


def _by_tarfile(file: Headers) -> Iterator[Entry]:
    """The members from here on, or the end mark; as `entries`."""
    with tarfile.open(fileobj=cast(IO[bytes], file), mode="r:", errors="backslashreplace") as tar:
        for entry in tar:
            file.begin()
            tar.members, tar.pax_headers = [], {}  # type: ignore[attr-defined]  # else they are kept for ever
            yield Entry(entry.name, entry.offset_data, entry.size, entry.isfile())
        file.begin()
        file.seek(tar.offset)
        mark = file.read(BLOCK)
        # `tarfile` also takes damage for the end.
        if len(mark) != BLOCK or any(mark):
            raise NoEndError("no end mark follows the last member")
