from __future__ import annotations

import base64
import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image

from tests.serve.pictures import encoded, picture
from ui.picture import LONGEST_SIDE, PictureProblem, open_picture


def shown(data_url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data_url.partition(",")[2])))


def test_the_file_is_kept_and_a_small_picture_shown(tmp_path: Path) -> None:
    file = tmp_path / "wide.png"
    file.write_bytes(encoded(Image.new("RGB", (3000, 1000), "red")))
    result = open_picture(file)
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
    assert open_picture(file).size == (40, 60)
    assert shown(open_picture(file).shown).size == (40, 60)


def test_transparency_is_shown_on_white(tmp_path: Path) -> None:
    file = tmp_path / "clear.png"
    file.write_bytes(encoded(Image.new("RGBA", (20, 20), (0, 0, 0, 0))))
    assert shown(open_picture(file).shown).getpixel((10, 10)) == (255, 255, 255)


@pytest.mark.parametrize("content", [b"", b"text", encoded(picture(0))[:80]], ids=["empty", "no picture", "cut off"])
def test_what_is_no_image_is_said_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(content)
    with pytest.raises(PictureProblem, match=r"broken\.png cannot be opened"):
        open_picture(file)
