"""The sha256 of large files, computed once per machine.

Sixteen workers that start with a checkpoint of 2.5 GB must not all read it through. The first keeps the digest in a
private folder (`everymask-UID` in the temporary folder), where the others look it up. It holds while the file's
identity, size and change times stay the same; the kernel sets the last of these at every write, and nobody can set it
back.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from pathlib import Path

from filelock import FileLock

REMEMBERED_BYTES = 32 << 20
"""Files from this size on have their digest kept; smaller ones are hashed faster than looked up."""

# A file that changed just now may change again within one tick of its file system's clock, and look the same.
_SETTLED_S = 3.0


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_sha256(path: Path) -> str:
    """Lower-case hex digest of a file's bytes, looked up if the file is unchanged.

    Raises:
        OSError: the file cannot be read.
    """
    before = _state(path)
    if before["size"] < REMEMBERED_BYTES or (folder := _private_folder()) is None:
        return file_sha256(path)
    record = folder / hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()
    try:
        with FileLock(record.with_suffix(".lock")):
            return _looked_up(path, record)
    except OSError:  # a full disk, or one without locks, costs time and nothing else
        return file_sha256(path)


def _looked_up(path: Path, record: Path) -> str:
    before = _state(path)
    if record.exists() and (known := _read(record)) and known["state"] == before:
        return str(known["sha256"])
    digest = file_sha256(path)
    settled = max(before["mtime_ns"], before["ctime_ns"]) < time.time_ns() - _SETTLED_S * 1e9
    if settled and _state(path) == before:
        draft = record.with_suffix(".draft")
        draft.write_text(json.dumps({"state": before, "sha256": digest}))
        draft.replace(record)
    return digest


def _read(record: Path) -> dict[str, object] | None:
    try:
        known = json.loads(record.read_text())
    except ValueError:
        return None
    return known if isinstance(known, dict) and known.keys() == {"state", "sha256"} else None


def _state(path: Path) -> dict[str, int]:
    found = path.stat()
    names = {
        "device": "st_dev",
        "inode": "st_ino",
        "size": "st_size",
        "mtime_ns": "st_mtime_ns",
        "ctime_ns": "st_ctime_ns",
    }
    return {name: int(getattr(found, attribute)) for name, attribute in names.items()}


def _private_folder() -> Path | None:
    """A folder of this machine that nobody else can write to, or None."""
    folder = Path(tempfile.gettempdir()) / f"everymask-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if ours else None
