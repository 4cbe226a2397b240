"""The files below a folder, in a fixed order, here or on any remote file system."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow.fs as pafs

from data_jobs.labelling.skipped import Skipped
from everymask.errors import ConfigurationError
from everymask.files.objects import pages
from everymask.files.storage import one_line, resolve
from everymask.wording import counted

_NO_FILE = "pipes, sockets or devices"
_AGAIN = "folders that a link leads to a second time"
_STORE = "label stores, whose previews are no images of yours"
_OF_A_STORE = frozenset({"run.json", "labels"})
_FOLDERS_AHEAD = 8
_PAGES_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file, and what its listing says of it.

    Attributes:
        uri: an absolute local path or a remote address, without parameters.
        size: bytes.
        version: its state, `mtime:<ns>`.
    """

    uri: str
    size: int | None = None
    version: str | None = None

    @classmethod
    def of(cls, uri: str, size: int | None, mtime_ns: int | None) -> ListedFile:
        return cls(uri, size, None if mtime_ns is None else f"mtime:{mtime_ns}")


def walk_local(root: str, avoid: str | None, skipped: Skipped) -> Iterator[ListedFile]:
    """The files below a folder, and then below the folders that links lead to, each folder once.

    Args:
        root: an absolute path.
        avoid: a folder that is passed over.
        skipped: counts what else is.

    Raises:
        ConfigurationError: (in the end) a folder cannot be read.
    """
    unreadable: list[str] = []
    seen: set[tuple[int, int]] = set()
    output = _identity(avoid) if avoid is not None and os.path.isdir(avoid) else None
    # Links come last: a folder keeps the path that it has without them.
    waiting, links = [root], deque[str]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.popleft()
        try:
            identity = _identity(folder)
            if identity == output:
                continue
            if identity in seen:
                skipped.add(_AGAIN)
                continue
            seen.add(identity)
            with os.scandir(folder) as listing:
                entries = sorted((entry for entry in listing if not entry.name.startswith(".")), key=_name)
        except OSError as error:
            unreadable.append(error.filename)
            continue
        if _OF_A_STORE.issubset(map(_name, entries)):
            skipped.add(_STORE)
            continue
        waiting += [entry.path for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]
        for entry in entries:
            if os.path.isdir(entry.path):
                if entry.is_symlink():
                    links.append(entry.path)
            # A link that leads nowhere counts: its row says that the file is not there.
            elif os.path.isfile(entry.path) or (entry.is_symlink() and not os.path.exists(entry.path)):
                yield look_at(entry.path)
            else:
                skipped.add(_NO_FILE)
    if unreadable:
        raise ConfigurationError(
            f"{counted(len(unreadable), 'folder')} of the input cannot be read, {unreadable[0]} first; give read "
            "access or name the images in a list"
        )


def _identity(folder: str) -> tuple[int, int]:
    """What is the same however a folder is reached: device and inode."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def look_at(path: str) -> ListedFile:
    """A local file and its state, as far as it can be seen."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # its row will say why
        return ListedFile(_printable(path))
    return ListedFile.of(_printable(path), found.st_size, found.st_mtime_ns)


def _printable(path: str) -> str:
    """A path Arrow can hold: a name that is not UTF-8 becomes one that is not found later, so an error row."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def walk_remote(root: str, query: str, avoid: str | None, skipped: Skipped) -> Iterator[ListedFile]:
    """The files below a remote folder as its pages come: a folder's files, then its subfolders in turn.

    The next folders are listed meanwhile, each some thousand entries ahead.

    Args:
        root: its address.
        query: the address's parameters.
        avoid: the address of a folder that is passed over.
        skipped: counts what else is.

    Raises:
        ConfigurationError: a folder cannot be listed.
    """
    filesystem, top = resolve(root + query)
    pool = ThreadPoolExecutor(_FOLDERS_AHEAD)
    waiting = deque([_Folder(pool, filesystem, top)])
    try:
        while waiting:
            folder = waiting.popleft()
            if folder.is_label_store():
                skipped.add(_STORE)
                continue
            # Only now: this folder's first images must not wait for those of others.
            for following in itertools.islice(waiting, _FOLDERS_AHEAD):
                following.begin()
            inside = []
            for entry in folder.entries():
                uri = root + entry.path[len(top) :]
                if entry.base_name.startswith(".") or uri == avoid:
                    continue
                if entry.type == pafs.FileType.Directory:
                    inside.append(entry.path)
                elif entry.type == pafs.FileType.File:
                    yield ListedFile.of(uri, entry.size, entry.mtime_ns)
            waiting.extendleft(_Folder(pool, filesystem, path) for path in sorted(inside, reverse=True))
    except OSError as error:
        raise ConfigurationError(f"the input {root} cannot be listed ({one_line(error)})") from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Folder:
    """A folder whose pages are asked for some at a time, those that come next before they are needed."""

    __slots__ = ("_filesystem", "_next", "_pages", "_path", "_pool")

    def __init__(self, pool: ThreadPoolExecutor, filesystem: pafs.FileSystem, path: str) -> None:
        self._pool, self._filesystem, self._path = pool, filesystem, path
        self._pages: Iterator[list[pafs.FileInfo]] = iter(())
        self._next: Future[list[list[pafs.FileInfo]]] | None = None

    def begin(self) -> Future[list[list[pafs.FileInfo]]]:
        """Ask for the first pages."""
        if self._next is None:
            self._pages = pages(self._filesystem, self._path)
            self._next = self._pool.submit(self._some)
        return self._next

    def is_label_store(self) -> bool:
        """Whether the folder is a label store; OSError if the storage does not answer."""
        first = self.begin().result()
        if len(first) < _PAGES_TOGETHER:
            return _OF_A_STORE.issubset(entry.base_name for page in first for entry in page)
        asked = [f"{self._path}/{name}" for name in sorted(_OF_A_STORE)]
        return all(info.type != pafs.FileType.NotFound for info in self._filesystem.get_file_info(asked))

    def entries(self) -> Iterator[pafs.FileInfo]:
        """What the folder holds, by name; OSError if it cannot be listed."""
        some = self.begin().result()
        while some:
            following = self._pool.submit(self._some) if len(some) == _PAGES_TOGETHER else None
            yield from sorted(itertools.chain(*some), key=lambda entry: str(entry.path))
            some = following.result() if following else []

    def _some(self) -> list[list[pafs.FileInfo]]:
        return list(itertools.islice(self._pages, _PAGES_TOGETHER))
