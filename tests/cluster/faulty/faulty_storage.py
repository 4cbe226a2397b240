"""A local file system that misbehaves on purpose, for every process that has this folder on its PYTHONPATH.

`faulty:///path` is the file at /path. Files in the folder named by FAULTY_STORAGE say what goes wrong: `failures`, how
many writes of label parts are still to fail; `write_delay_s`, how long each takes. `events.log` gets a line for every
image that is opened (`read`) and every part that has landed (`write` and its name), in that order of time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem


class FaultyFileSystem(LocalFileSystem):  # type: ignore[misc]
    """The local file system under another name, with the faults described above."""

    protocol = "faulty"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("faulty://").strip("/")

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> Any:
        if "/labels/" in path and "w" in mode:
            self._fail_or_wait(path)
        elif "/images/" in path and "r" in mode:
            self._log("read")
        return super()._open(path, mode, block_size, **options)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        super().mv(path1, path2, **options)
        if "/labels/part-" in path2:
            self._log(f"write {Path(path2).name}")

    def _fail_or_wait(self, path: str) -> None:
        folder = Path(os.environ["FAULTY_STORAGE"])
        if (folder / "failures").exists():
            with (folder / "failures").open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                left = int(file.read())
                file.seek(0)
                file.truncate()
                file.write(str(max(left - 1, 0)))
            if left:
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        if (folder / "write_delay_s").exists():
            time.sleep(float((folder / "write_delay_s").read_text()))

    def _log(self, event: str) -> None:
        with (Path(os.environ["FAULTY_STORAGE"]) / "events.log").open("a") as file:
            file.write(f"{event}\n")
