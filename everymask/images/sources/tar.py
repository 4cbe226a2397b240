"""WebDataset shards: tars whose members share a key, `0001.jpg` beside `0001.json`.

A member of a `.tar` is one range of its bytes, so neighbouring images are read together. A `.tar.gz` cannot be entered:
reading a member unpacks everything before it.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from posixpath import splitext
from typing import IO, cast

import pyarrow as pa

from everymask.errors import InputError
from everymask.files.storage import one_line
from everymask.images.decoding import IMAGE_SUFFIXES, ImageLimits
from everymask.images.sources.options import SourceOptions
from everymask.images.sources.ranges import read_ranges, refused, whole
from everymask.images.sources.source import Found, Source
from everymask.images.sources.tar_headers import NoEndError, entries
from everymask.records import Member

_GZIP_SUFFIXES = (".tar.gz", ".tgz")
_BUFFER_BYTES, _LOCAL_BUFFER_BYTES = 2**20, 2**12
_MOST_HEADER_BYTES = 2**20
_LAST_OFFSET = 2**63 - 1
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError, RecursionError)


def list_images(file: pa.NativeFile, name: str, options: SourceOptions) -> Iterator[Found]:
    """Every image of a shard, in its order; if the shard is cut short or damaged, the last one found says so."""
    packed = name.lower().endswith(_GZIP_SUFFIXES)
    size = _LAST_OFFSET if packed else file.size()
    keys: set[str] = set()
    try:
        for entry in entries(_Headers(_unpacked(file) if packed else _buffered(file))):
            if entry.size < 0 or entry.offset + entry.size > size:
                yield Found("", error=f"the shard is cut short in {entry.name!r}; the images before it are labelled")
                return
            if entry.is_file and splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                key = _new_key(entry.name, keys)
                yield Found(
                    key, Member("scan" if packed else "range", entry.name, entry.offset, entry.size), entry.size
                )
        if not keys:
            yield Found("", error="the shard holds no image")
    except NoEndError:
        yield Found("", error="the shard is damaged or cut short after its last readable image")
    except _DAMAGE as error:
        what = "is cut short or damaged" if keys else "is no tar archive"
        yield Found("", error=f"the shard {what} ({one_line(error)})")


class _Headers:
    """A file that bounds the headers that `tarfile` reads for each member.

    `tarfile` believes a header's own length, so without a bound a few packed kilobytes could unpack to gigabytes of it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell
        self.begin()

    def begin(self) -> None:
        """Start counting the next member's headers."""
        self._left = _MOST_HEADER_BYTES

    def read(self, size: int) -> bytes:
        """As `read` of files; ReadError beyond the bound."""
        self._left -= size
        if size < 0 or self._left < 0:
            raise tarfile.ReadError(f"a member has more than {_MOST_HEADER_BYTES:,} bytes of headers")
        return self._file.read(size)


def _buffered(file: pa.NativeFile) -> IO[bytes]:
    local = isinstance(file, pa.OSFile)  # where a header is read as fast by itself
    return cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, file), _LOCAL_BUFFER_BYTES if local else _BUFFER_BYTES))


def _unpacked(file: pa.NativeFile) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=_buffered(file)))


def _new_key(name: str, taken: set[str]) -> str:
    """A member's key: its path up to the first dot of its name; its whole name for a second image of one key."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    key = folder + slash + (base.split(".")[0] or base)
    if key in taken:
        key = folder + slash + base
    number = 2
    whole = key
    while key in taken:  # one name twice in one shard
        key = f"{whole}#{number}"
        number += 1
    taken.add(key)
    return key


def read_images(
    file: pa.NativeFile | IO[bytes], members: Sequence[Member], limits: ImageLimits
) -> list[bytes | InputError]:
    """The bytes of members: neighbours by one read, those of a `.tar.gz` by going on in its unpacked stream."""
    if members[0].kind == "range":
        return read_ranges(file, members, limits)
    found, order = refused(members, limits)
    for index in order:
        member = members[index]
        try:
            file.seek(member.offset or 0)
            found[index] = whole(file.read(member.size or 0), member)
        except _DAMAGE as error:
            found[index] = InputError(f"the shard is cut short or damaged ({one_line(error)})")
    return found


TAR = Source(
    "WebDataset shards",
    (".tar", *_GZIP_SUFFIXES),
    ("range", "scan"),
    list_images,
    read_images,
    unpack=_unpacked,
)
