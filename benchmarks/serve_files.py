"""Image files that benchmarks/serve.py sends."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

from PIL import Image

_STAMPS = itertools.count()


def load_files(folder: Path) -> list[bytes]:
    """The photographs, no larger than 640 pixels, as JPEG files."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png", ".webp"))
    if not paths:
        raise SystemExit(f"{folder} holds no photographs; name another folder with --images")
    return [shrunk(path.read_bytes(), 640) for path in paths]


def shrunk(file: bytes, longest_side: int) -> bytes:
    """The image as a JPEG with sides up to `longest_side`."""
    image = Image.open(io.BytesIO(file)).convert("RGB")
    image.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def unseen(jpeg: bytes) -> bytes:
    """The same picture as a new file, unknown to any cache: trailing bytes do not change a JPEG."""
    return jpeg + next(_STAMPS).to_bytes(8, "big")
