"""A broken codec: opening a BMP that holds the word POISON kills the process, as a crash in C code would."""

from __future__ import annotations

import os
import signal
from typing import IO

from PIL import BmpImagePlugin, Image

Image.init()


def _open(file: IO[bytes], filename: str | bytes) -> Image.Image:
    if b"POISON" in file.read():
        os.kill(os.getpid(), signal.SIGKILL)
    file.seek(0)
    return BmpImagePlugin.BmpImageFile(file, filename)


Image.register_open("BMP", _open, lambda prefix: prefix.startswith(b"BM"))
