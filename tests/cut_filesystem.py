"""A file system of fsspec that stops a program at a chosen change: `cut://FOLDER`, a folder of this machine.

The counterpart of `tests.power_cut` for what is written as to an object store: each object whole, none synced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem


class Killed(BaseException):
    """The program is gone; no code of it runs any more."""


class CutFileSystem(DirFileSystem):
    """The local disk, until `left` changes were made."""

    protocol = "cut"
    left: ClassVar[int | None] = None
    made: ClassVar[int] = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(path="/", fs=LocalFileSystem(auto_mkdir=True))

    @classmethod
    def cut_after(cls, changes: int | None) -> None:
        """Let so many changes through; None for all."""
        cls.left, cls.made = changes, 0

    @classmethod
    def _count(cls) -> None:
        if cls.left is not None and cls.made >= cls.left:
            raise Killed
        cls.made += 1

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Counts where it writes."""
        if "r" not in mode:
            self._count()
        return super().open(path, mode, **options)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        """A change."""
        self._count()
        self.fs.mv(self._join(path1), self._join(path2))

    def rm(self, path: Any, *arguments: Any, **options: Any) -> None:
        """A change."""
        self._count()
        super().rm(path, *arguments, **options)

    def rm_file(self, path: str) -> None:
        """A change."""
        self._count()
        super().rm_file(path)


def register() -> None:
    """Make addresses `cut://…` known."""
    fsspec.register_implementation("cut", CutFileSystem, clobber=True)


def address(folder: Path) -> str:
    """The address of a folder of this machine."""
    return f"cut://{str(folder).lstrip('/')}"
