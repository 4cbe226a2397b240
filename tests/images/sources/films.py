"""Small videos for tests, drawn here: the grey of a frame says which one it is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None, reason="no ffmpeg here; apt-get install ffmpeg"
)
STEP = 5
"""Grey levels between two frames."""


def film(path: Path, frames: int = 40, rate: str = "10", gop: int = 8, options: tuple[str, ...] = ()) -> Path:
    """A video of 64 x 48 pixels whose frame N is grey STEP * N, with a white corner at the upper left.

    It is encoded by ffmpeg's own MPEG-4, or VP8 for `.webm`, so that any build of it will do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.repeat(np.arange(frames, dtype=np.uint8) * STEP, 48 * 64 * 3).reshape(frames, 48, 64, 3)
    pixels[:, :16, :16] = 255
    codec = ("libvpx", "-b:v", "2M") if path.suffix == ".webm" else ("mpeg4", "-q:v", "2", "-bf", "2")
    subprocess.run(
        [
            *("ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-r", rate),
            *("-i", "pipe:0", "-pix_fmt", "yuv420p", "-g", str(gop), "-c:v", *codec, *options, str(path)),
        ],
        input=pixels.tobytes(),
        check=True,
        timeout=120,
    )
    return path
