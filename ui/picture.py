"""An image file prepared for the browser."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MAX_BYTES = 64 * 2**20
"""Most bytes of a file, the service's default limit too."""
_PATIENCE_S = 120


class PictureProblem(Exception):
    """A file that cannot be shown; the message is for the page's user."""


@dataclass(frozen=True)
class Picture:
    """A picked image.

    Attributes:
        name: the file's name.
        data: the file, as sent to the service.
        image_id: hex sha256 of the file, its id in the service.
        size: (width, height) in pixels, upright.
        shown: data URL of a JPEG no larger than `LONGEST_SIDE`.
    """

    name: str
    data: bytes
    image_id: str
    size: tuple[int, int]
    shown: str


def open_picture(path: str | Path, folder: Path) -> Picture:
    """Read an image file inside `folder`, where uploads are kept; the client chooses the path.

    Raises:
        PictureProblem: not an upload, not an image, or too large to be shown.
    """
    file, data = _read_below(folder, path)
    size, jpeg = _decoded(data, file.name)
    shown = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
    return Picture(file.name, data, hashlib.sha256(data).hexdigest(), size, shown)


def _read_below(folder: Path, path: str | Path) -> tuple[Path, bytes]:
    missing = PictureProblem("This file is not there any more. Upload it again.")
    try:
        # Resolved first, so that neither `..` nor a link leads out of the folder.
        file = Path(path).resolve()
        status = file.stat()
    except (OSError, RuntimeError, ValueError):
        raise missing from None
    # Something other than a file, a device for one, may never end.
    if not file.is_relative_to(folder.resolve()) or not stat.S_ISREG(status.st_mode):
        raise missing
    if status.st_size > MAX_BYTES:
        raise PictureProblem(f"{file.name} is larger than {MAX_BYTES // 2**20} MB.")
    try:
        return file, file.read_bytes()
    except OSError:
        raise missing from None


def _decoded(data: bytes, name: str) -> tuple[tuple[int, int], bytes]:
    """Size and shown picture, from a process with limits of its own."""
    command = [sys.executable, "-I", str(Path(__file__).with_name("decoding.py"))]
    try:
        result = subprocess.run(command, input=data, capture_output=True, check=True, timeout=_PATIENCE_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise PictureProblem(f"{name} needs more memory or time than an image may.") from error
    head, _, jpeg = result.stdout.partition(b"\n")
    answer = json.loads(head)
    if "problem" in answer:
        raise PictureProblem(f"{name} {answer['problem']}")
    width, height = answer["size"]
    return (width, height), jpeg
