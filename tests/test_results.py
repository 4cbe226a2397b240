"""Masks and labels as a program and a notebook use them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image
from skimage.draw import polygon as fill

import everymask
from everymask.errors import InputError
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import boxes_from_rles, encode_masks
from everymask.records import ImageLabels, LabelledMask
from everymask.results import Labels

SIZE_HW = (20, 30)


def drawn() -> ImageLabels:
    """A ring and a square; the ring has a hole, both have classes."""
    ring, square = np.zeros((2, *SIZE_HW), bool)
    ring[2:12, 3:15] = True
    ring[5:8, 6:10] = False
    square[14:18, 20:26] = True
    rles = encode_masks(np.stack([ring, square]))
    boxes = boxes_from_rles(rles).tolist()
    first = LabelledMask(rles[0], tuple(boxes[0]), 108, 0.9, 0.95, (3.0, 2.0), 0.8, 0, "ring", 0.1, mask_id="0" * 24)
    second = LabelledMask(
        rles[1], tuple(boxes[1]), 24, 0.9, 0.95, (20.0, 14.0), 0.7, 1, "square", 0.1, mask_id="1" * 24
    )
    return ImageLabels(SIZE_HW, (first, second), 0.2)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)


def test_a_mask_is_an_array_a_polygon_and_a_cutout(pixels: np.ndarray) -> None:
    ring, square = Labels.of(drawn()).masks
    assert ring.array.dtype == bool
    assert ring.array.sum() == ring.area == 108
    filled = np.zeros(SIZE_HW, bool)
    (corners,) = ring.polygon()
    filled[fill(corners[:, 1] - 0.5, corners[:, 0] - 0.5, SIZE_HW)] = True
    assert np.array_equal(filled, ring.array)
    cut = square.crop(pixels)
    assert np.array_equal(cut, np.dstack([pixels[14:18, 20:26], np.full((4, 6), 255)]))
    assert set(np.unique(ring.crop(Image.fromarray(pixels))[:, :, 3])) == {0, 255}
    with pytest.raises(InputError, match="30 x 20"):
        square.crop(pixels[:10])


def test_labels_draw_themselves(pixels: np.ndarray) -> None:
    labels = Labels.of(drawn(), pixels)
    picture = labels.plot()
    assert picture.size == (30, 20)
    assert not np.array_equal(np.asarray(picture), pixels)
    shown = labels._repr_png_()
    assert shown is not None
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), np.asarray(picture))
    without = Labels.of(drawn())
    assert without._repr_png_() is None
    assert np.array_equal(np.asarray(without.plot(pixels)), np.asarray(picture))
    with pytest.raises(InputError, match="hold no picture"):
        without.plot()


def test_a_line_says_what_they_are(pixels: np.ndarray) -> None:
    labels = Labels.of(drawn(), pixels)
    assert repr(labels) == "Labels(30 x 20 px, 2 masks, 20% covered)"
    assert repr(labels.masks[1]) == "Mask('square', score 0.700, 24 px, box (20, 14, 26, 18))"
    assert repr(Labels.of(ImageLabels((1, 1), (labels.masks[0],), 0.0))) == "Labels(1 x 1 px, 1 mask, 0% covered)"


def test_supervision_takes_them() -> None:
    labels = Labels.of(drawn())
    detections = labels.to_supervision()
    assert isinstance(detections, sv.Detections)
    assert len(detections) == 2
    assert np.array_equal(detections.mask, np.stack([mask.array for mask in labels.masks]))
    assert detections.area.tolist() == [108, 24]
    assert detections.data["class_name"].tolist() == ["ring", "square"]
    assert len(Labels.of(ImageLabels((4, 4), (), 0.0)).to_supervision()) == 0


@pytest.fixture
def store(tmp_path: Path) -> everymask.Store:
    writer = LabelStore(str(tmp_path / "labels"))
    images = [ImageRow(f"{i}.png", f"photos/{i}.png", drawn(), None, "0" * 64) for i in range(3)]
    writer.write_part(to_table([*images[:2], ImageRow("bad.png", "photos/bad.png", None, "no image")]))
    writer.write_part(to_table(images[2:]))
    return everymask.open_store(tmp_path / "labels")


def test_a_store_is_asked_by_id(store: everymask.Store) -> None:
    found = store["2.png"]
    assert found.uri == "photos/2.png"
    assert isinstance(found.labels, Labels)
    assert found.labels.masks[0].array.sum() == 108
    assert store["bad.png"].error == "no image"
    with pytest.raises(KeyError, match=r"absent\.png"):
        store["absent.png"]


def test_a_store_is_walked_and_counted(store: everymask.Store) -> None:
    assert len(store) == 4
    assert sorted(image.image_id for image in store) == ["0.png", "1.png", "2.png", "bad.png"]
    assert all(isinstance(image.labels, Labels) for image in store if image.error is None)


def test_pandas_gets_a_row_for_each_mask(store: everymask.Store) -> None:
    table = store.to_pandas()
    assert len(table) == 6
    assert table.groupby("class_name")["area"].sum().to_dict() == {"ring": 324, "square": 72}
    assert {"image_id", "uri", "score", "box_xyxy", "rle", "mask_id"} <= set(table.columns)
