"""A local disk whose power goes off between two system calls: what was not synced is lost.

`PowerCut` stands in for the module `os` in code that writes files. It works on real files, counts calls that change
something, raises at the chosen one, and then, by `lose_unsynced`, makes of the disk the worst that may be found on it:
files that were not synced are empty; folders that were not synced are as they were at their last sync.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class PowerFailure(BaseException):
    """The power is off; no code runs any more."""


class PowerCut:
    """The functions of `os` that writers call, up to call number `calls`; all others as they are.

    Args:
        calls: how many changing calls are let through; None for all.
    """

    def __init__(self, calls: int | None = None) -> None:
        self._left = calls
        self.made = 0
        self._paths: dict[int, str] = {}
        self._unsynced: set[str] = set()
        self._undo: dict[str, list[Callable[[], None]]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _count(self) -> None:
        if self._left is not None and self.made >= self._left:
            raise PowerFailure
        self.made += 1

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """A file that is made here may be gone, or empty, after the cut."""
        if flags & os.O_CREAT:
            self._count()
            self._later(path, lambda: Path(path).unlink(missing_ok=True))
            self._unsynced.add(path)
        descriptor = os.open(path, flags, mode)
        self._paths[descriptor] = path
        return descriptor

    def write(self, descriptor: int, data: Any) -> int:
        """At most half of it at a time, so that a cut may fall between two halves."""
        self._count()
        return os.write(descriptor, data[: max(1, len(data) // 2)])

    def fsync(self, descriptor: int) -> None:
        """What the file or folder holds now will stay."""
        self._count()
        os.fsync(descriptor)
        self._unsynced.discard(self._paths[descriptor])
        self._undo.pop(self._paths[descriptor], None)

    def close(self, descriptor: int) -> None:
        """Not a change."""
        os.close(descriptor)

    def mkdir(self, path: str) -> None:
        """A folder that may be gone after the cut."""
        self._count()
        os.mkdir(path)
        self._later(path, lambda: Path(path).rmdir())

    def replace(self, source: str, target: str) -> None:
        """The target may be what it was before."""
        self._count()
        before = Path(target).read_bytes() if os.path.exists(target) else None
        os.replace(source, target)
        if source in self._unsynced:
            self._unsynced.remove(source)
            self._unsynced.add(target)

        def undo() -> None:
            if before is None:
                Path(target).unlink(missing_ok=True)
            else:
                Path(target).write_bytes(before)

        self._later(target, undo)

    def unlink(self, path: str) -> None:
        """The power is off already where this is called to clean up."""
        self._count()
        os.unlink(path)

    def _later(self, path: str, undo: Callable[[], None]) -> None:
        self._undo.setdefault(os.path.dirname(path), []).append(undo)

    def lose_unsynced(self, folders: bool) -> None:
        """Make the disk what may be found after the cut.

        Args:
            folders: whether unsynced changes of folders are lost, too; a disk may keep them and lose contents only.
        """
        for path in self._unsynced:
            if os.path.exists(path):
                Path(path).write_bytes(b"")
        if folders:
            for undos in reversed(self._undo.values()):
                for undo in reversed(undos):
                    undo()
