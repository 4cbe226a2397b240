"""A real file system without room, over a folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PAGE = 4096


@contextmanager
def full_disk(folder: Path, room_pages: int = 0) -> Iterator[Callable[[], None]]:
    """Until the block ends, a folder holds the files it had and has room for so many pages more; then it is as before.

    Yields:
        a function that makes room, as a person does who was told.
    """
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    pages = sum(-(-len(data) // _PAGE) for data in before.values())
    command = ["mount", "-t", "tmpfs", "-o", f"size={max(pages, 1) * _PAGE + room_pages * _PAGE}", "tmpfs", str(folder)]
    mount = shutil.which("mount")
    mounted = subprocess.run(command, capture_output=True, text=True) if mount else None
    if mounted is None or mounted.returncode:
        pytest.skip(f"no file system can be mounted here; run as root ({mounted.stderr.strip() if mounted else ''})")
    try:
        for name, data in before.items():
            (folder / name).write_bytes(data)
        if not before:
            (folder / "filler").write_bytes(bytes(_PAGE))
        yield lambda: _resize(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # tracebacks may hold files open


def _resize(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
