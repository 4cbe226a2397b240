"""What annotation tools get: every shape to the pixel, ids, scores, and the fields each tool looks at."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everymask.errors import ConfigurationError, InputError
from everymask.formats.label_studio import labelling_config, read_region, regions
from everymask.labels.doubt import image_doubt
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from tests.formats.exporting import run_export
from tests.formats.shapes import HEIGHT, WIDTH, shape_store, shapes
from tests.labels.examples import mask_record


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """Every shape that formats get wrong."""
    return shape_store(tmp_path)


def test_label_studio_tasks(store: LabelStore, tmp_path: Path) -> None:
    run_export(store, "label-studio", tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["data"]["image_id"] for task in tasks] == ["none.png", "portrait.jpg", "shapes/all.png"]
    assert tasks[2]["data"]["image"] == "/data/local-files/?d=shapes/all.png"
    (prediction,) = tasks[2]["predictions"]
    (image,) = [image for image in store.images() if image.image_id == "shapes/all.png"]
    assert image.labels is not None
    assert prediction["score"] == 1 - image_doubt(image.labels)
    assert [region["id"] for region in prediction["result"]] == [mask.mask_id for mask in image.labels.masks]
    assert '<Image name="image" value="$image" zoom="true" smoothing="false"/>' in (tmp_path / "tasks.xml").read_text()


def test_the_pieces_of_a_label_studio_polygon_name_their_mask() -> None:
    ring = mask_record(shapes()["ring"], 0.5)
    found = regions(ring, "polygon")
    assert len(found) > 1
    union = np.logical_or.reduce([decode_mask(read_region(region, (HEIGHT, WIDTH))) for region in found])
    np.testing.assert_array_equal(union, shapes()["ring"])


def test_labels_are_escaped_in_the_configuration() -> None:
    labels = ET.fromstring(labelling_config(['a "quoted" <name>'], "brush")).iter("Label")
    assert [label.get("value") for label in labels] == ['a "quoted" <name>']


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"original_width": 9}, "is of an image of 9 x 60 pixels, not 80 x 60"),
        ({"value": {"imageDataURL": "data:image/png;base64,AAAA"}}, "cannot be read"),
        ({"value": {"rle": [0, 0, 0, 9, 0]}}, "cannot be read"),
        ({"value": {"rle": []}}, "cannot be read"),
        ({"value": {"x": 1, "y": 2}, "type": "rectanglelabels"}, "is a rectanglelabels; only bitmasks"),
    ],
)
def test_a_region_that_is_no_mask_is_one_sentence(change: dict[str, object], problem: str) -> None:
    (region,) = regions(mask_record(shapes()["ring"], 0.5), "bitmask")
    with pytest.raises(InputError, match=problem):
        read_region(region | change, (HEIGHT, WIDTH))


def test_x_anylabeling_has_polygons_in_groups_and_unchecked_files(store: LabelStore, tmp_path: Path) -> None:
    run_export(store, "x-anylabeling", tmp_path / "xal")
    content = json.loads((tmp_path / "xal" / "shapes" / "all.json").read_text())
    assert (content["checked"], content["imagePath"], content["imageData"]) == (False, "all.png", None)
    assert {shape["shape_type"] for shape in content["shapes"]} == {"polygon"}
    assert {shape["group_id"] for shape in content["shapes"]} == set(range(1, len(shapes()) + 1))


def test_cvat_declares_the_attributes_that_masks_have(store: LabelStore, tmp_path: Path) -> None:
    run_export(store, "cvat", tmp_path / "cvat.xml")
    root = ET.parse(tmp_path / "cvat.xml").getroot()
    for label in root.iter("label"):
        assert [name.text for name in label.iter("name")][1:] == ["everymask_id", "score"]
    assert [image.get("name") for image in root.iter("image")] == ["none.png", "portrait.jpg", "shapes/all.png"]


def test_panoptic_segments_are_the_masks_and_overlaps_are_counted(tmp_path: Path) -> None:
    whole, corner = np.ones((10, 10), bool), np.zeros((10, 10), bool)
    corner[:5, :5] = True
    store = LabelStore(str(tmp_path / "store"))
    both = ImageLabels((10, 10), (mask_record(corner, 0.9, 1), mask_record(whole, 0.8, 0)), 1.0)
    store.write_part(to_table([ImageRow("a/b.png", "b.png", both)]))
    assert run_export(store, "coco-panoptic", tmp_path / "out").loss.overlapping == 2
    content = json.loads((tmp_path / "out" / "annotations" / "panoptic_default.json").read_text())
    (annotation,) = content["annotations"]
    segments = np.asarray(Image.open(tmp_path / "out/annotations/panoptic_default" / annotation["file_name"]))[:, :, 0]
    for info in annotation["segments_info"]:
        assert info["area"] == (segments == info["id"]).sum()
    assert [info["category_id"] for info in annotation["segments_info"]] == [2, 1]


def test_voc_lists_images_and_refuses_more_than_it_holds(store: LabelStore, tmp_path: Path) -> None:
    run_export(store, "voc", tmp_path / "voc")
    listed = (tmp_path / "voc" / "ImageSets" / "Segmentation" / "default.txt").read_text()
    assert listed.split() == ["none", "portrait", "shapes/all"]
    assert (tmp_path / "voc" / "labelmap.txt").read_text().splitlines()[:2] == ["background:0,0,0::", "cat:128,0,0::"]
    pixel = np.zeros((16, 16), bool)
    pixel[0, 0] = True
    many = ImageLabels((16, 16), tuple(mask_record(pixel, 0.5) for _ in range(255)), 0.1)
    store.write_part(to_table([ImageRow("many.png", "many.png", many)]))
    with pytest.raises(ConfigurationError, match=r"many\.png has 255 masks"):
        run_export(store, "voc", tmp_path / "voc2")
