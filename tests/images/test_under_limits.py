"""What decoding costs at most, measured in a process of its own, and damaged files of every format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everymask.images.decoding import DECODING_BYTES_PER_PIXEL
from tests.images_under_limits import FORMATS, encode

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.images_under_limits", *arguments]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_file_is_a_picture_or_a_sentence_within_memory_and_time(format: str) -> None:
    run("fuzz", format)


def large(kind: str) -> bytes:
    """6 megapixels of one kind, turned by EXIF where the format can say so."""
    y, x = np.mgrid[:2000, :3000]
    colour = Image.fromarray(np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8))
    clear = colour.convert("RGBA")
    clear.putalpha(100)
    exif = Image.Exif()
    exif[0x0112] = 6
    match kind:
        case "grey, 16 bits":
            return encode(Image.fromarray((x * 20).astype(np.uint16)), "PNG", compress_level=1)
        case "grey, 32 bits":
            return encode(Image.fromarray((x * 1000).astype(np.int32)), "TIFF")
        case "grey, float":
            return encode(Image.fromarray((x / 7).astype(np.float32)), "TIFF")
        case "CMYK":
            return encode(colour.convert("CMYK"), "JPEG", exif=exif)
        case "progressive":
            return encode(colour, "JPEG", progressive=True, subsampling=0, exif=exif)
        case "RGBA":
            return encode(clear, "PNG", compress_level=1, exif=exif)
        case "TIFF":
            return encode(colour, "TIFF", compression="tiff_deflate", exif=exif)
        case "AVIF":
            return encode(colour, "AVIF", speed=10, exif=exif)
        case "WEBP":
            return encode(clear, "WEBP", method=0, exif=exif)
        case _:
            return encode(colour, kind)


@pytest.mark.parametrize(
    "kind",
    [
        "JPEG",
        "progressive",
        "CMYK",
        "PNG",
        "RGBA",
        "grey, 16 bits",
        "grey, 32 bits",
        "grey, float",
        "TIFF",
        "GIF",
        "BMP",
        "PPM",
        "WEBP",
        "JPEG2000",
        "AVIF",
    ],
)
def test_memory_follows_from_the_pixels(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(large(kind))
    needed = float(run("measure", str(file)))
    print(f"{kind}: {needed:.1f} bytes a pixel")
    assert needed < DECODING_BYTES_PER_PIXEL
