"""A real file system without room, over a folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PAGE = 4096


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Until the block ends, a folder holds the files it had and has no room for another byte; then it is as before."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    pages = sum(-(-len(data) // _PAGE) for data in before.values())
    command = ["mount", "-t", "tmpfs", "-o", f"size={max(pages, 1) * _PAGE}", "tmpfs", str(folder)]
    mount = shutil.which("mount")
    mounted = subprocess.run(command, capture_output=True, text=True) if mount else None
    if mounted is None or mounted.returncode:
        pytest.skip(f"no file system can be mounted here; run as root ({mounted.stderr.strip() if mounted else ''})")
    try:
        for name, data in before.items():
            (folder / name).write_bytes(data)
        if not before:
            (folder / "filler").write_bytes(bytes(_PAGE))
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # tracebacks may hold files open
