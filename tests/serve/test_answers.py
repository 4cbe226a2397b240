from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from everymask.masks.rle import decode_mask, encode_mask
from everymask.records import ImageLabels, LabelledMask
from serve.answers import classes_answer, to_mask

# A ring with an island inside its hole, and a part far away.
PIXELS = np.zeros((40, 50), dtype=np.bool_)
PIXELS[5:25, 10:35] = True
PIXELS[9:20, 14:30] = False
PIXELS[12:15, 18:22] = True
PIXELS[33:38, 41:49] = True


def labelled(pixels: NDArray[np.bool_], class_id: int | None = None, score: float = 0.5) -> LabelledMask:
    ys, xs = np.nonzero(pixels)
    box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    name = None if class_id is None else f"class {class_id}"
    return LabelledMask(encode_mask(pixels), box, int(pixels.sum()), 0.9, 0.8, (12.0, 6.0), score, class_id, name, None)


def from_png(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_rle_is_the_mask() -> None:
    answer = to_mask(labelled(PIXELS), "rle")
    assert answer.rle is not None
    np.testing.assert_array_equal(decode_mask({"size": answer.rle.size, "counts": answer.rle.counts}), PIXELS)
    assert answer.bbox == [10, 5, 39, 33]
    assert answer.polygon is answer.png_base64 is None


def test_polygons_keep_holes_and_parts() -> None:
    answer = to_mask(labelled(PIXELS), "polygon")
    assert answer.polygon is not None
    assert len(answer.polygon) == 3
    for polygon in answer.polygon:
        assert all(0 <= x <= 50 for x in polygon[0::2])
        assert all(0 <= y <= 40 for y in polygon[1::2])
    areas = [
        abs(np.dot(p[0::2], np.roll(p[1::2], -1)) - np.dot(p[1::2], np.roll(p[0::2], -1))) / 2
        for p in map(np.array, answer.polygon)
    ]
    assert sum(areas) == PIXELS.sum()
    # pycocotools fills polygons by its own rule, up to half a pixel off along borders.
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(answer.polygon, 40, 50))).astype(bool)
    assert (drawn & PIXELS).sum() / (drawn | PIXELS).sum() > 0.9


def test_png_is_the_mask() -> None:
    answer = to_mask(labelled(PIXELS), "png")
    assert answer.png_base64 is not None
    image = from_png(answer.png_base64)
    assert image.mode == "1"
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize(("classes", "mode"), [(2, "P"), (300, "I;16")])
def test_the_semantic_map_holds_class_ids_above_background(classes: int, mode: str) -> None:
    other = np.zeros_like(PIXELS)
    other[0:10, 0:20] = True
    labels = ImageLabels((40, 50), (labelled(PIXELS, 0, 0.9), labelled(other, 1, 0.6)), 0.5)
    answer = classes_answer(
        labels, "id", False, "nano", 0.1, "rle", "pets", tuple(f"class {i}" for i in range(classes)), with_map=True
    )
    assert answer.semantic_map is not None
    image = from_png(answer.semantic_map.png_base64)
    assert image.mode == mode
    expected = np.where(PIXELS, 1, np.where(other, 2, 0))
    np.testing.assert_array_equal(np.asarray(image), expected)
    assert len(answer.semantic_map.palette) == classes + 1
    if mode == "P":
        palette = np.array(image.getpalette()).reshape(-1, 3)[: classes + 1]
        assert palette.tolist() == answer.semantic_map.palette
