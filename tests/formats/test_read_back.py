"""Every format, read by code that shares nothing with its writer, holds the masks that were stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from everymask.formats.coco_panoptic import segment_colours
from everymask.formats.registry import FORMATS
from everymask.formats.voc import voc_palette
from everymask.labels.mask_ids import with_mask_ids
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.formats import independent_readers as readers
from tests.formats.exporting import run_export
from tests.formats.shapes import HEIGHT, WIDTH, shape_store, shapes
from tests.labels.examples import mask_record

READERS: dict[str, Callable[[Path, str], readers.Masks]] = {
    "coco": readers.coco,
    "coco-folders": readers.coco_folders,
    "coco-roboflow": readers.coco_roboflow,
    "coco-panoptic": readers.coco_panoptic,
    "label-studio": readers.label_studio,
    "x-anylabeling": readers.x_anylabeling,
    "labelme": readers.labelme,
    "cvat": readers.cvat,
    "voc": readers.voc,
    "yolo": partial(readers.yolo, size_hw=(HEIGHT, WIDTH)),
    "huggingface": readers.hugging_face,
    "webdataset": readers.web_dataset,
    "entity-png": readers.entity_png,
}
WAYS = [(name, kind) for name in READERS for kind in FORMATS[name].segmentations or ("",)]


def test_every_format_has_a_reader() -> None:
    # FiftyOne itself reads its own, in tests/formats/readers.
    assert READERS.keys() | {"semantic-png", "fiftyone"} == FORMATS.keys()


def exported(folder: Path, name: str, kind: str) -> Path:
    """The shapes in a format, its polygons exact."""
    output = folder / f"out{FORMATS[name].suffix}"
    exact = None if FORMATS[name].tolerance_px is None else 0.0
    report = run_export(shape_store(folder), name, output, kind or None, exact)
    if name != "yolo":
        assert report.loss.worst_iou == 1.0
    return output


@pytest.mark.parametrize(("name", "kind"), WAYS)
def test_every_shape_is_there_to_the_pixel(tmp_path: Path, name: str, kind: str) -> None:
    output = exported(tmp_path, name, kind)
    for found, (shape, mask) in zip(READERS[name](output, "shapes/all.png"), shapes().items(), strict=True):
        if (name, shape) == ("yolo", "two parts"):  # one ring has to join them, by a line of 14 pixels
            assert ((found & ~mask).sum(), (mask & ~found).sum()) == (14, 0)
        else:
            np.testing.assert_array_equal(found, mask)
    if name != "yolo":
        assert len(READERS[name](output, "portrait.jpg")) == 1


@pytest.mark.parametrize("kind", FORMATS["semantic-png"].segmentations)
def test_masks_of_a_class_are_one_in_a_class_map(tmp_path: Path, kind: str) -> None:
    found = readers.semantic_png(exported(tmp_path, "semantic-png", kind), "shapes/all.png")
    masks = list(shapes().values())
    for number, seen in enumerate(found):
        np.testing.assert_array_equal(seen, np.logical_or.reduce(masks[number::2]))
    assert len(found) == 2


def single_pixels(count: int, size_hw: tuple[int, int], classes: bool) -> tuple[ImageLabels, NDArray[np.int64]]:
    """As many masks of one pixel, the k-th at pixel k - 1, alternately of two classes; and the map of these k."""
    masks = []
    for pixel in range(count):
        mask = np.zeros(size_hw, bool)
        mask.flat[pixel] = True
        masks.append(mask_record(mask, 1 - pixel / count, pixel % 2 if classes else None))
    expected = np.zeros(size_hw, np.int64)
    expected.flat[:count] = np.arange(1, count + 1)
    return with_mask_ids(ImageLabels(size_hw, tuple(masks), 0.5), "ab" * 32, "0" * 64), expected


def store_of(folder: Path, labels: ImageLabels) -> LabelStore:
    """A store of one image, many.png."""
    store = LabelStore(str(folder / "store"))
    store.write_part(to_table([ImageRow("many.png", "many.png", labels)]))
    return store


def test_panoptic_ids_beyond_one_byte(tmp_path: Path) -> None:
    labels, expected = single_pixels(600, (20, 40), classes=False)
    run_export(store_of(tmp_path, labels), "coco-panoptic", tmp_path / "out")
    found = readers.coco_panoptic(tmp_path / "out", "many.png")
    np.testing.assert_array_equal(np.stack(found), expected == np.arange(1, 601)[:, None, None])
    content = json.loads((tmp_path / "out/annotations/panoptic_default.json").read_text())
    (annotation,) = content["annotations"]
    for pixel, segment in enumerate(annotation["segments_info"]):
        y, x = divmod(pixel, 40)
        assert (segment["area"], segment["bbox"]) == (1, [x, y, 1, 1])
        assert segment["everymask_id"] == labels.masks[pixel].mask_id


def test_panoptic_ids_beyond_two_bytes() -> None:
    colours = segment_colours(np.array([[1, 256, 65_536, 0x0A0B0C]], dtype=np.int32))
    assert colours.tolist() == [[[1, 0, 0], [0, 1, 0], [0, 0, 1], [12, 11, 10]]]


def test_voc_holds_254_objects_and_numbers_them_and_their_classes_from_one(tmp_path: Path) -> None:
    labels, expected = single_pixels(254, (16, 16), classes=True)
    run_export(store_of(tmp_path, labels), "voc", tmp_path / "voc")
    with Image.open(tmp_path / "voc/SegmentationObject/many.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), expected)
    classes = np.asarray(Image.open(tmp_path / "voc/SegmentationClass/many.png"))
    np.testing.assert_array_equal(classes, np.where(expected == 0, 0, 2 - expected % 2))
    assert (tmp_path / "voc/labelmap.txt").read_text() == "background:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n"


def test_vocs_palette_is_the_development_kits() -> None:
    """The first and the last colours of VOC's own `VOClabelcolormap`."""
    palette = voc_palette().tolist()
    assert palette[:9] == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
        [0, 128, 128],
        [128, 128, 128],
        [64, 0, 0],
    ]
    assert palette[20] == [0, 64, 128]
    assert palette[255] == [224, 224, 192]


def test_of_overlapping_masks_voc_and_panoptic_show_the_better_one(tmp_path: Path) -> None:
    whole, corner = np.ones((10, 10), bool), np.zeros((10, 10), bool)
    corner[:5, :5] = True
    masks = (mask_record(whole, 0.9, 0), mask_record(corner, 0.8, 1))
    for number, order in enumerate((masks, (replace(masks[1], score=0.95), masks[0]))):
        folder = tmp_path / str(number)
        store = store_of(folder, ImageLabels((10, 10), order, 1.0))
        run_export(store, "voc", folder / "voc")
        run_export(store, "entity-png", folder / "entities")
        hidden = number == 0
        seen = readers.voc(folder / "voc", "many.png")
        np.testing.assert_array_equal(seen[0], whole if hidden else corner)
        np.testing.assert_array_equal(readers.entity_png(folder / "entities", "many.png")[0], seen[0])
