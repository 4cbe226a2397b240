"""A place for files, local or remote: a file system and a path in it."""

from __future__ import annotations

import errno
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.fs as pafs

from everymask.errors import OutputError
from everymask.files import durable
from everymask.files.storage import error_number, one_line, resolve

logger = logging.getLogger(__name__)

DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Waits between tries, for storage that fails briefly."""

_ONE_REQUEST_BYTES = 8 * 2**20  # pyarrow cuts objects of 10 MiB
_NO_REMEDY_IN_WAITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})

Kind = Literal["missing", "file", "folder", "other"]


@dataclass(frozen=True, eq=False)
class Location:
    """A local or remote file or folder, which need not exist.

    Writes are atomic: readers see the old file or the new one. A local write is on disk when it returns; object stores
    show an object only once all of it is stored.

    Attributes:
        filesystem: pyarrow's, or fsspec's behind its interface.
        path: inside the file system; absolute on a local one.
    """

    filesystem: pafs.FileSystem
    path: str

    @classmethod
    def at(cls, uri: str) -> Location:
        """The location of a local path or address.

        Raises:
            ConfigurationError: no installed library opens it, or it holds credentials.
        """
        return cls(*resolve(uri))

    def __str__(self) -> str:
        return self.path

    def __fspath__(self) -> str:
        return self.path

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether it is a path on this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def child(self, name: str) -> Location:
        """The location at a name or relative path below this one."""
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def kind(self) -> Kind:
        """What exists here; `other` is a pipe, socket or device. Raises OSError if the file system cannot be asked."""
        return _KINDS[self.filesystem.get_file_info(self.path).type]

    def entries(self) -> list[Location]:
        """The folder's entries by name; [] if there is no folder. Raises OSError if it cannot be listed."""
        if self.kind() != "folder":
            return []
        found = self.filesystem.get_file_info(pafs.FileSelector(self.path))
        return [Location(self.filesystem, info.path) for info in sorted(found, key=lambda info: str(info.path))]

    def open(self) -> pa.NativeFile:
        """Open the file for random access; OSError if it is missing or unreadable."""
        return self.filesystem.open_input_file(self.path)

    def read(self) -> bytes:
        """The file's content; raises as `open` does."""
        with self.open() as file:
            return bytes(file.read())

    def write(self, data: bytes | pa.Buffer, delays_s: Sequence[float] = DELAYS_S) -> None:
        """Write `data` here atomically, making the folder.

        `delays_s` are the waits between tries, for storage that fails briefly.

        Raises:
            OutputError: the place is full or not writable, or every try failed.
        """
        for delay in [*delays_s, None]:
            try:
                self._write_once(data)
                return
            except OSError as error:
                if delay is None or error_number(error) in _NO_REMEDY_IN_WAITING:
                    raise OutputError(
                        f"cannot write {self}: {one_line(error)}; everything finished so far is kept: make room or "
                        "give write access there, then run the same command again"
                    ) from error
                logger.warning("cannot write %s, trying again in %s s: %s", self, delay, one_line(error))
                time.sleep(delay)

    def _write_once(self, data: bytes | pa.Buffer) -> None:
        if self.is_local:
            durable.write_file(self.path, memoryview(data))
            return
        # S3 shows an object whole or not at all; but of several requests, some failing, it may be an empty one.
        one_request = isinstance(self.filesystem, pafs.S3FileSystem) and memoryview(data).nbytes <= _ONE_REQUEST_BYTES
        with self.filesystem.open_output_stream(self.path) if one_request else self._draft() as stream:
            stream.write(data)

    @contextmanager
    def stream(self) -> Iterator[pa.NativeFile]:
        """A stream for a file too big for memory; it appears here only if the block succeeds.

        It is not synced to disk: exports can be made again. Raises OutputError if the file cannot be written.
        """
        try:
            with self._draft() as stream:
                yield stream
        except OSError as error:
            raise OutputError(
                f"cannot write {self}: {one_line(error)}; make room or give write access there"
            ) from error

    @contextmanager
    def _draft(self) -> Iterator[pa.NativeFile]:
        folder, _, name = self.path.rpartition("/")
        draft = f"{folder}/.{name}.{uuid.uuid4().hex}"
        if not isinstance(self.filesystem, pafs.S3FileSystem):  # it has no folders
            self.filesystem.create_dir(folder, recursive=True)
        try:
            with self.filesystem.open_output_stream(draft) as stream:
                yield stream
            self.filesystem.move(draft, self.path)
        except BaseException:
            with suppress(OSError):
                self.filesystem.delete_file(draft)
            raise

    def make_folder(self) -> None:
        """Make the folder and its parents; OSError if that fails."""
        if self.is_local:
            durable.make_folder(self.path)
        else:
            self.filesystem.create_dir(self.path, recursive=True)

    def move(self, target: Location) -> None:
        """Rename the file, making the target's folder if missing; OSError if that fails."""
        if self.is_local:
            durable.move_file(self.path, target.path)
            return
        self.filesystem.create_dir(target.path.rpartition("/")[0], recursive=True)
        self.filesystem.move(self.path, target.path)

    def delete(self) -> None:
        """Remove the file, or the folder and its contents, if it exists; OSError if that fails."""
        match self.kind():
            case "file" | "other":
                self.filesystem.delete_file(self.path)
            case "folder":
                self.filesystem.delete_dir(self.path)

    def sync(self) -> None:
        """Make deletions in the folder survive a power cut; OSError if the folder cannot be opened."""
        if self.is_local:
            durable.sync_folder(self.path)


_KINDS: dict[pafs.FileType, Kind] = {
    pafs.FileType.NotFound: "missing",
    pafs.FileType.File: "file",
    pafs.FileType.Directory: "folder",
    pafs.FileType.Unknown: "other",
}
