"""Run by the tests in a process of its own: what decoding costs, and what damaged files do to it.

`python -m tests.images_under_limits measure FILE` prints the bytes per pixel that decoding the file takes at most.
`python -m tests.images_under_limits fuzz FORMAT` decodes damaged files under ceilings of memory and processor time.
"""

from __future__ import annotations

import resource
import struct
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from everymask.errors import InputError
from everymask.images.decoding import ImageLimits, decode_image

FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
MEMORY_CEILING = 256 * 2**20
"""Bytes for one picture within `LIMITS`."""
TIME_CEILING_S = 4.0
"""Processor time for one picture within `LIMITS`."""
LIMITS = ImageLimits(max_bytes=2**20, max_pixels=2**20)
EXAMPLES = 1000
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)


def peak_bytes() -> int:
    """The most memory this process has held since `reset_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def reset_peak() -> int:
    """Forget the peak; returns what is held now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes()


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def seeds(format: str) -> list[bytes]:
    """Sound files of one format, in its variants."""
    if format == "HEIF":  # nothing here can write it
        return [(Path(__file__).parent / "images" / "corners.heic").read_bytes()]
    y, x = np.mgrid[:40, :60]
    colour = Image.fromarray(np.stack([x * 4, y * 6, (x * y) % 256], axis=-1).astype(np.uint8))
    clear = colour.convert("RGBA")
    clear.putalpha(100)
    deep = Image.fromarray((x * 1000).astype(np.uint16))
    real = Image.fromarray((x / 7).astype(np.float32))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    frames: dict[str, object] = {"save_all": True, "append_images": [colour.rotate(90)]}
    tiffs: list[tuple[Image.Image, dict[str, object]]] = [
        (deep, {}),
        (real, {}),
        (colour.convert("1"), {"compression": "group4"}),
        (colour, frames),
    ]
    for name in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        tiffs.append((colour, {"compression": name, "exif": exif}))
    variants: dict[str, list[tuple[Image.Image, dict[str, object]]]] = {
        "AVIF": [(colour, {"exif": exif}), (clear, {}), (colour, frames)],
        "BMP": [(colour, {}), (colour.convert("P"), {}), (colour.convert("1"), {})],
        "GIF": [(colour, {"comment": b"text"}), (colour, frames)],
        "JPEG": [(colour, {"exif": exif}), (colour, {"progressive": True}), (colour.convert("CMYK"), {})],
        "JPEG2000": [(colour, {}), (clear, {"tile_size": (32, 32)}), (deep, {})],
        "PNG": [(colour, {"exif": exif}), (clear, {}), (colour.convert("P"), {"transparency": 3}), (deep, {})],
        "PPM": [(colour, {}), (deep, {}), (colour.convert("1"), {})],
        "TIFF": tiffs,
        "WEBP": [(colour, {"exif": exif}), (clear, {"lossless": True}), (colour, frames)],
    }
    return [encode(image, format, **options) for image, options in variants[format]]


@st.composite
def damaged(draw: st.DrawFn, files: list[bytes]) -> bytes:
    """A sound file after a few changes: bytes, numbers of either order, cuts, repeats, pieces of another file."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 5))):
        # Structure lies near the beginning, most of it.
        end = draw(st.sampled_from([64, 512, len(data)]))
        at = draw(st.integers(0, max(min(end, len(data)) - 1, 0)))
        kind = draw(st.sampled_from(["byte", "number", "cut", "repeat", "piece"]))
        if kind == "byte" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "number":
            width = draw(st.sampled_from(["H", "L"]))
            value = draw(st.sampled_from(_EXTREMES)) & (0xFFFF if width == "H" else 0xFFFFFFFF)
            number = struct.pack(draw(st.sampled_from("<>")) + width, value)
            data[at : at + len(number)] = number
        elif kind == "cut":
            del data[at : at + draw(st.integers(1, 64))]
        elif kind == "repeat":
            piece = data[at : at + draw(st.integers(1, 64))]
            data[at:at] = piece * draw(st.integers(1, 200))
        else:
            other = draw(st.sampled_from(files))
            start = draw(st.integers(0, len(other) - 1))
            data[at : at + 32] = other[start : start + 32]
    return bytes(data)


def fuzz(format: str) -> None:
    """Decode damaged files of one format: a picture or one sentence, below the ceilings."""
    before = reset_peak()
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))  # spares the machine if a ceiling does not hold

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged(seeds(format)))
    def decodes_or_says_why(data: bytes) -> None:
        started = time.process_time()
        try:
            pixels = decode_image(data, LIMITS)
        except InputError as error:
            message = str(error)
            assert "\n" not in message, message
            assert 10 < len(message) < 500, message
            assert "MemoryError" not in message, data
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3
        assert time.process_time() - started < TIME_CEILING_S, data
        assert peak_bytes() - before < MEMORY_CEILING, data

    decodes_or_says_why()


def measure(file: Path) -> float:
    """Most bytes per pixel that are held more than before while the file is decoded."""
    data = file.read_bytes()
    decode_image(encode(Image.new("RGB", (8, 8)), "PNG"))
    before = reset_peak()
    height, width, _ = decode_image(data).shape
    return (peak_bytes() - before) / (height * width)


if __name__ == "__main__":
    if sys.argv[1] == "fuzz":
        fuzz(sys.argv[2])
    else:
        print(measure(Path(sys.argv[2])))
