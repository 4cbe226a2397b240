from __future__ import annotations

import base64
import hashlib
import io
import os
import resource
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gradio.data_classes import ImageData
from PIL import Image

from everymask.images.decoding import decode_image
from tests.images.bombs import BOMBS, bomb
from tests.serve.pictures import encoded, picture
from ui.client import ServiceClient
from ui.decoding import LONGEST_SIDE
from ui.page import build_page
from ui.picture import MAX_BYTES, PictureProblem, open_picture


def shown(data_url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data_url.partition(",")[2])))


def test_the_file_is_kept_and_a_small_picture_shown(tmp_path: Path) -> None:
    file = tmp_path / "wide.png"
    file.write_bytes(encoded(Image.new("RGB", (3000, 1000), "red")))
    result = open_picture(file, tmp_path)
    assert result.data == file.read_bytes()
    assert result.image_id == hashlib.sha256(result.data).hexdigest()
    assert (result.name, result.size) == ("wide.png", (3000, 1000))
    assert shown(result.shown).size == (LONGEST_SIDE, round(LONGEST_SIDE / 3))


def test_the_picture_stands_as_the_service_sees_it(tmp_path: Path) -> None:
    image = picture(0, (60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    file = tmp_path / "turned.jpg"
    file.write_bytes(encoded(image, "JPEG", exif=exif))
    assert open_picture(file, tmp_path).size == (40, 60)
    assert shown(open_picture(file, tmp_path).shown).size == (40, 60)


def test_transparency_is_shown_on_white(tmp_path: Path) -> None:
    file = tmp_path / "clear.png"
    file.write_bytes(encoded(Image.new("RGBA", (20, 20), (0, 0, 0, 0))))
    assert shown(open_picture(file, tmp_path).shown).getpixel((10, 10)) == (255, 255, 255)


@pytest.mark.parametrize("content", [b"", b"text", encoded(picture(0))[:80]], ids=["empty", "no picture", "cut off"])
def test_what_is_no_image_is_said_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    with pytest.raises(PictureProblem, match=r"broken\.png cannot be opened"):
        open_picture(file, tmp_path)


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_grey_is_shown_as_the_service_sees_it(tmp_path: Path, bits: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, 2500).reshape(50, 50).astype(np.uint16)
    file = tmp_path / "deep.tif"
    Image.fromarray(ramp).save(file)
    seen = np.asarray(shown(open_picture(file, tmp_path).shown).convert("L")).astype(int)
    np.testing.assert_allclose(seen, decode_image(file.read_bytes())[:, :, 0], atol=6)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(PictureProblem, match=r"large\.png is larger than 64 MB"):
        open_picture(file, tmp_path)


def test_no_program_is_started_for_postscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would hand it to Ghostscript."""
    witness = tmp_path / "started"
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {witness}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    file = tmp_path / "a.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(PictureProblem, match="cannot be opened"):
        open_picture(file, tmp_path)
    assert not witness.exists()


@pytest.mark.parametrize("hostile", ["TIFF, tags", "WebP, canvas"])
def test_bombs_do_not_take_the_page_with_them(tmp_path: Path, hostile: str) -> None:
    file = tmp_path / "bomb"
    file.write_bytes(BOMBS[hostile]())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(PictureProblem):
        open_picture(file, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000, "KiB of this process"


def test_too_many_pixels_are_said_so(tmp_path: Path) -> None:
    file = tmp_path / "wide.png"
    file.write_bytes(bomb(100_000, 50_000))
    with pytest.raises(PictureProblem, match=r"wide\.png has more than 100 megapixels"):
        open_picture(file, tmp_path)


@pytest.mark.parametrize(
    "path", ["../secret.png", "link.png", "folder", "/dev/zero", "pipe.png", "nowhere.png", "nul\0.png", ".", ""]
)
def test_only_a_file_that_was_uploaded_is_read(tmp_path: Path, path: str) -> None:
    uploads = tmp_path / "uploads"
    (uploads / "folder").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(encoded(picture(0)))
    (uploads / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(uploads / "pipe.png")
    with pytest.raises(PictureProblem, match="Upload it again"):
        open_picture(uploads / path, uploads)


def test_the_page_opens_no_file_by_itself(tmp_path: Path) -> None:
    """Gradio would, with every decoder there is."""
    blocks = build_page(ServiceClient("http://127.0.0.1:9", None), tmp_path)
    (upload,) = [block for block in blocks.blocks.values() if getattr(block, "elem_id", "") == "upload"]
    file = tmp_path / "a.png"
    file.write_bytes(b"no picture")
    assert upload.preprocess(ImageData(path=str(file))) == str(file)
    assert upload.preprocess(None) is None
