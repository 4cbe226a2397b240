from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from everymask.formats.label_studio_masks import (
    bitmask_url,
    brush_rles,
    mask_from_brush_rle,
    percent_points,
    percent_texts,
    percents_read,
    rles_of_brushes,
)
from everymask.formats.outlines import simple_polygons
from everymask.masks.rle import encode_mask
from everymask.records import LabelledMask
from tests.masks.strategies import mask_stacks, masks


def cases() -> dict[str, NDArray[np.bool_]]:
    ring = np.zeros((40, 50), dtype=np.bool_)
    ring[5:25, 10:35] = True
    ring[9:20, 14:30] = False
    ring[33:38, 41:49] = True
    return {
        "empty": np.zeros((7, 5), dtype=np.bool_),
        "full": np.ones((7, 5), dtype=np.bool_),
        "one pixel": np.ones((1, 1), dtype=np.bool_),
        "first and last pixel": np.eye(2, dtype=np.bool_),
        "ring and part": ring,
        "noise": np.random.default_rng(0).random((33, 21)) < 0.4,
        "a run longer than one length holds": np.ones((300, 400), dtype=np.bool_),
    }


def labelled(pixels: NDArray[np.bool_]) -> LabelledMask:
    ys, xs = np.nonzero(pixels)
    box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1) if len(xs) else (0, 0, 0, 0)
    return LabelledMask(encode_mask(pixels), box, int(pixels.sum()), 0.9, 0.8, (1.0, 1.0), 0.5)


def crop(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What a mask has inside its box."""
    x0, y0, x1, y1 = labelled(pixels).box_xyxy
    return pixels[y0:y1, x0:x1]


@given(masks())
def test_any_brush_comes_back_as_it_was(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    (values,) = brush_rles([labelled(mask)], (height, width))
    np.testing.assert_array_equal(mask_from_brush_rle(values, (height, width)), mask)


@given(mask_stacks())
def test_the_brushes_of_an_image_are_those_of_its_masks_one_by_one(stack: NDArray[np.bool_]) -> None:
    size_hw = stack.shape[1:]
    records = [labelled(mask) for mask in stack]
    brushes = brush_rles(records, size_hw)
    assert brushes == [brush_rles([record], size_hw)[0] for record in records]
    assert rles_of_brushes(brushes, size_hw) == [record.rle for record in records]


@pytest.mark.parametrize("pixels", cases().values(), ids=cases())
def test_a_brush_comes_back_as_it_was(pixels: NDArray[np.bool_]) -> None:
    height, width = pixels.shape
    (values,) = brush_rles([labelled(pixels)], (height, width))
    assert all(0 <= value <= 255 for value in values)
    np.testing.assert_array_equal(mask_from_brush_rle(values, (height, width)), pixels)


def test_a_brushs_bytes_are_those_of_the_format() -> None:
    # 2 x 1 pixels, the second inside: 8 values; 8-bit words; lengths of 3, 4, 8 or 16 bits; two runs of 4.
    bits = "000000000000000000000000000010000011100100011011111111000110000000010001111111111"
    bits += "0" * (-len(bits) % 8)
    expected = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert brush_rles([labelled(np.array([[False, True]]))], (1, 2)) == [expected]


def test_a_brush_of_single_values_is_read_by_its_opacity() -> None:
    """As the editor packs coloured strokes: values that do not repeat stand one by one, in words of any size."""
    pixels = [(7, 3, 1, 0), (7, 3, 1, 9), (7, 3, 1, 0), (7, 3, 1, 1)]
    bits = f"{16:032b}{5 - 1:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    bits += f"001{12 - 1:04b}" + "".join(f"{value:05b}" for pixel in pixels[:3] for value in pixel)
    bits += f"000{3 - 1:03b}" + "".join(f"{value:05b}" for value in (7, 3, 1)) + f"100{1 - 1:03b}{1:05b}"
    bits += "0" * (-len(bits) % 8)
    values = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert mask_from_brush_rle(values, (2, 2)).tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize("damage", ["cut", "size"])
def test_a_damaged_brush_is_refused(damage: str) -> None:
    pixels = cases()["noise"]
    (values,) = brush_rles([labelled(pixels)], (33, 21))
    with pytest.raises(ValueError, match="brush encoding"):
        mask_from_brush_rle(values[:40] if damage == "cut" else values, (33, 21) if damage == "cut" else (21, 21))


@pytest.mark.parametrize("pixels", cases().values(), ids=cases())
def test_a_bitmask_is_black_on_transparent(pixels: NDArray[np.bool_]) -> None:
    head, _, data = bitmask_url(labelled(pixels), crop(pixels)).partition(",")
    assert head == "data:image/png;base64"
    rgba = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))
    np.testing.assert_array_equal(rgba[..., 3], np.where(pixels, 255, 0))
    assert not rgba[..., :3].any()


@pytest.mark.parametrize("pixels", cases().values(), ids=cases())
def test_polygons_in_percent_fill_the_mask(pixels: NDArray[np.bool_]) -> None:
    height, width = pixels.shape
    rings = percent_points(simple_polygons(labelled(pixels)), (height, width))
    assert all(0 <= value <= 100 for ring in rings for corner in ring for value in corner)
    assert [json.loads(text) for text in percent_texts(simple_polygons(labelled(pixels)), (height, width))] == rings
    read = [np.array(ring) * [width / 100, height / 100] for ring in rings]
    for one, other in zip(percents_read(simple_polygons(labelled(pixels)), (height, width)), read, strict=True):
        np.testing.assert_array_equal(one, other)
    # Eight times as large, so that a pixel's middle is hit and not its border.
    drawn = np.zeros((height * 8, width * 8), dtype=np.bool_)
    for ring in rings:
        canvas = Image.new("1", (width * 8, height * 8))
        ImageDraw.Draw(canvas).polygon([(x * width * 8 / 100, y * height * 8 / 100) for x, y in ring], fill=1)
        drawn |= np.asarray(canvas)
    np.testing.assert_array_equal(drawn[4::8, 4::8], pixels)
