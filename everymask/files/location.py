"""A place for files, local or remote: a file system and a path in it."""

from __future__ import annotations

import errno
import logging
import os
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
from everymask.files.storage import one_line, resolve

logger = logging.getLogger(__name__)

WRITE_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_NO_REMEDY_IN_WAITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})

Kind = Literal["missing", "file", "folder", "other"]


@dataclass(frozen=True, eq=False)
class Location:
    """A file or folder that need not exist.

    Writes are whole: a reader sees the file before or the file after, never a part of it. On a local file system a
    write has reached the disk when it returns; object stores make an object visible only when all of it is stored.

    Attributes:
        filesystem: pyarrow's, or fsspec's behind its interface.
        path: inside the file system; absolute on a local one.
    """

    filesystem: pafs.FileSystem
    path: str

    @classmethod
    def at(cls, uri: str) -> Location:
        """The place that a local path or an address means.

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
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether it is a plain path of this machine."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def child(self, name: str) -> Location:
        """What lies below under that name, or under that relative path."""
        return Location(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def kind(self) -> Kind:
        """What is there now. `other` is neither file nor folder: a pipe, a socket, a device.

        Raises:
            OSError: the file system cannot be asked.
        """
        return _KINDS[self.filesystem.get_file_info(self.path).type]

    def entries(self) -> list[Location]:
        """What lies directly in the folder, by name; nothing where there is no folder.

        Raises:
            OSError: the folder cannot be listed.
        """
        if self.kind() != "folder":
            return []
        found = self.filesystem.get_file_info(pafs.FileSelector(self.path))
        return [Location(self.filesystem, info.path) for info in sorted(found, key=lambda info: str(info.path))]

    def open(self) -> pa.NativeFile:
        """The file, to be read from any position.

        Raises:
            OSError: it is not there or cannot be read.
        """
        return self.filesystem.open_input_file(self.path)

    def read(self) -> bytes:
        """The file's content. Raises as `open` does."""
        with self.open() as file:
            return bytes(file.read())

    def write(self, data: bytes | pa.Buffer, delays_s: Sequence[float] = WRITE_DELAYS_S) -> None:
        """Put `data` here; the folder is made if need be.

        Args:
            data: the content.
            delays_s: waits before the second, third, … try, for a storage that fails for a while.

        Raises:
            OutputError: the place is full or not writable, or every try failed.
        """
        for delay in [*delays_s, None]:
            try:
                self._write_once(data)
                return
            except OSError as error:
                if delay is None or _errno(error) in _NO_REMEDY_IN_WAITING:
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
        with self._draft() as stream:
            stream.write(data)

    @contextmanager
    def stream(self) -> Iterator[pa.NativeFile]:
        """A stream for a file too big to hold: it appears here when the block ends well, and not at all otherwise.

        It is not synced to the disk: meant for exports, which can be made again.

        Raises:
            OutputError: the file cannot be written.
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
        """Make the folder and those above it.

        Raises:
            OSError: it cannot be made.
        """
        if self.is_local:
            durable.make_folder(self.path)
        else:
            self.filesystem.create_dir(self.path, recursive=True)

    def move(self, target: Location) -> None:
        """Rename the file; the target's folder is made if need be.

        Raises:
            OSError: it cannot be renamed.
        """
        if self.is_local:
            durable.move_file(self.path, target.path)
            return
        self.filesystem.create_dir(target.path.rpartition("/")[0], recursive=True)
        self.filesystem.move(self.path, target.path)

    def delete(self) -> None:
        """Remove the file, or the folder with all that is in it; nothing happens where nothing is.

        Raises:
            OSError: it cannot be removed.
        """
        match self.kind():
            case "file" | "other":
                self.filesystem.delete_file(self.path)
            case "folder":
                self.filesystem.delete_dir(self.path)

    def sync(self) -> None:
        """Make what was deleted in the folder stay deleted after a power cut.

        Raises:
            OSError: the folder cannot be opened.
        """
        if self.is_local:
            durable.sync_folder(self.path)


_KINDS: dict[pafs.FileType, Kind] = {
    pafs.FileType.NotFound: "missing",
    pafs.FileType.File: "file",
    pafs.FileType.Directory: "folder",
    pafs.FileType.Unknown: "other",
}


def _errno(error: OSError) -> int | None:
    if error.errno is not None:
        return error.errno
    # Arrow reports some failures of the operating system as text only: "… [errno 28] No space left on device".
    return next((code for code in _NO_REMEDY_IN_WAITING if os.strerror(code) in str(error)), None)
