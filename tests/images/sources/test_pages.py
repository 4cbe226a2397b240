"""Pages of a TIFF and frames of animations: all of them where the user asks, each reopened by its number."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from data_jobs.labelling.inputs import ImageRef, list_images
from everymask.errors import InputError
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.files import read_members
from everymask.images.sources.options import SourceOptions
from everymask.images.structure import tiff_pages
from everymask.records import Member
from tests.images.sources.holding import ANYTHING, LIMITS, animation, loaded, multipage, pages_of, picture

ALL = SourceOptions(all_pages=True)


def listed(location: object, options: SourceOptions = ALL) -> list[ImageRef]:
    return list(list_images(str(location), options=options))


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "CMYK", "P", "I;16", "F"])
def test_every_page_of_a_tiff_is_the_picture_it_would_be_alone(tmp_path: Path, mode: str) -> None:
    path = multipage(tmp_path / "scan.tif", mode)
    images = listed(path)
    assert [image.image_id for image in images] == ["scan.tif/0", "scan.tif/1", "scan.tif/2"]
    for page, (_, error, data) in zip(pages_of(mode), loaded(images, tmp_path), strict=True):
        assert error is None
        page.save(tmp_path / "alone.tif")
        assert np.array_equal(decode_image(data), decode_image((tmp_path / "alone.tif").read_bytes()))
    assert read_members(str(path), [images[1].member], LIMITS, ANYTHING) == [loaded(images, tmp_path)[1][2]]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_every_frame_of_an_animation_is_taken(tmp_path: Path, name: str) -> None:
    path = animation(tmp_path / name, 4)
    images = listed(tmp_path)
    assert [image.image_id for image in images] == [f"{name}/{number}" for number in range(4)]
    found = [decode_image(data) for _, _, data in loaded(images, tmp_path)]
    assert [int(pixels[5, 5, 0]) for pixels in found] == [0, 60, 120, 180]
    last, first = read_members(str(path), [images[3].member, images[0].member], LIMITS, ANYTHING)
    assert np.array_equal(decode_image(last), found[3])
    assert np.array_equal(decode_image(first), found[0])


def test_only_those_who_ask_get_pages_and_a_file_with_one_stays_as_it_was(tmp_path: Path) -> None:
    multipage(tmp_path / "scan.tif", "L")
    (tmp_path / "one.png").write_bytes(picture(1))
    (tmp_path / "text.tiff").write_bytes(b"no image")
    assert [image.image_id for image in listed(tmp_path, SourceOptions())] == ["one.png", "scan.tif", "text.tiff"]
    assert all(image.member is None for image in listed(tmp_path, SourceOptions()))
    images = listed(tmp_path)
    assert [image.image_id for image in images] == ["one.png", "scan.tif/0", "scan.tif/1", "scan.tif/2", "text.tiff"]
    assert images[0] == listed(tmp_path, SourceOptions())[0]
    assert (images[-1].member, images[-1].error) == (None, None)


def test_small_copies_inside_a_tiff_are_no_pages(tmp_path: Path) -> None:
    first, second, third = pages_of("L")
    second.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second, third])
    assert [image.image_id for image in listed(tmp_path)] == ["a.tif/0", "a.tif/2"]


def test_a_page_that_is_not_there_or_too_large_is_an_error(tmp_path: Path) -> None:
    path = multipage(tmp_path / "a.tif", "L")
    there, missing = read_members(str(path), [Member("page", page=2), Member("page", page=3)], LIMITS, ANYTHING)
    assert isinstance(there, bytes)
    assert str(missing) == "the file has no such page"
    (large,) = read_members(str(path), [Member("page", page=1)], ImageLimits(max_pixels=100), ANYTHING)
    assert isinstance(large, InputError)
    assert "more than the limit of 100" in str(large)


def test_a_chain_of_pages_without_an_end_and_one_with_hostile_tags_are_stopped() -> None:
    def directory(entries: list[tuple[int, int, int, int]], following: int) -> bytes:
        return (
            struct.pack("<H", len(entries))
            + b"".join(struct.pack("<HHLL", *entry) for entry in entries)
            + struct.pack("<L", following)
        )

    one = directory([(256, 4, 1, 5)], 8)
    assert tiff_pages(b"II*\0" + struct.pack("<L", 8) + one) == [0]
    second = 8 + len(one)
    # A thousand tags of the second page that share the same bytes.
    hostile = directory([(40_000 + number, 1, 4000, 8) for number in range(1000)], 0)
    data = b"II*\0" + struct.pack("<L", 8) + directory([(256, 4, 1, 5)], second) + hostile
    with pytest.raises(InputError, match="made to exhaust memory"):
        tiff_pages(data)
