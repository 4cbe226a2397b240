"""Local files that survive a power cut: what a call wrote is on disk when it returns.

A rename is durable only if the content is synced before it and the folder after it. Otherwise a power cut may leave the
old state, or an empty file under the final name.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress


def write_file(path: str, data: bytes | memoryview) -> None:
    """Write `data` to an absolute `path` atomically, making its folder; OSError if full or not writable."""
    folder, _, name = path.rpartition("/")
    make_folder(folder)
    # Readers pass over names that begin with a dot; a kill leaves at most such a file behind.
    draft = f"{folder}/.{name}.{uuid.uuid4().hex}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise
    sync_folder(folder)


def make_folder(path: str) -> None:
    """Make an absolute folder and its parents durably, if missing; OSError if that fails or a file is in the way."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    make_folder(above)
    with suppress(FileExistsError):  # another process was faster; a file in the way shows when it is written into
        os.mkdir(path)
    sync_folder(above)


def move_file(path: str, target: str) -> None:
    """Rename a file durably, making the target's folder if missing; OSError if that fails."""
    make_folder(os.path.dirname(target))
    os.replace(path, target)
    sync_folder(os.path.dirname(target))
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Make a folder's renames, additions and deletions survive a power cut; OSError if it cannot be opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
