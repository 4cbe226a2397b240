"""Lines of Ray's that a user of ours can do nothing about."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence

HARMLESS = ("has constructor arguments in the object store and max_restarts > 0",)
"""Ray Data holds these arguments until a run ends, so a worker that died gets them again; Ray cannot know. Read in Ray
2.60."""
_END = b"\0"


def hide_lines(parts: Sequence[str], stream: int = 2) -> None:
    """Drop the lines with one of these parts from what this process writes to a stream, until it ends.

    Ray's core writes to the file descriptor, past `sys.stderr` and past every setting of Ray's log, so the descriptor
    leads through a pipe. Processes that were started before keep the stream as it was.

    Args:
        parts: texts; a line with one of them is dropped.
        stream: number of the file descriptor.
    """
    real = os.dup(stream)
    reading, writing = os.pipe()
    os.dup2(writing, stream)
    pipe = os.fstat(writing).st_ino
    os.close(writing)
    unwanted = [part.encode() for part in parts]
    pump = threading.Thread(target=_pump, args=(reading, real, unwanted), daemon=True)
    pump.start()

    def restore() -> None:
        if os.fstat(stream).st_ino != pipe:
            return  # somebody else has redirected the stream since
        os.write(stream, _END)  # children may hold the pipe open, so its end would never come
        pump.join()
        os.dup2(real, stream)

    atexit.register(restore)


def _pump(reading: int, real: int, unwanted: Sequence[bytes]) -> None:
    pending = b""
    while not pending.endswith(_END):
        written = os.read(reading, 65536) or _END
        pending += written
        *lines, pending = pending.split(b"\n")
        for line in lines:
            if not any(part in line for part in unwanted):
                _write(real, line + b"\n")
        # What may still become an unwanted line waits for its end; a prompt or a progress line does not.
        if pending and not pending.startswith(b"[") and not pending.endswith(_END):
            _write(real, pending)
            pending = b""
    _write(real, pending.removesuffix(_END))


def _write(real: int, content: bytes) -> None:
    while content:
        content = content[os.write(real, content) :]
