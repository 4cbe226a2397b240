from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from everymask.classes.exemplars.boxes import boxed_pictures
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.images.decoding import ImageLimits
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels, LabelledMask
from tests.formats.shapes import sha256_of

PETS = Taxonomy.parse("pets=cat+dog")
CAT, DOG = (20, 30, 80, 70), (90, 10, 120, 90)
"""Boxes in an image of 160 x 100; the cat's pixels are red, the dog's are green."""


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    pixels = np.zeros((100, 160, 3), dtype=np.uint8)
    for (x0, y0, x1, y1), channel in ((CAT, 0), (DOG, 1)):
        pixels[y0:y1, x0:x1, channel] = 255
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(pixels).save(folder / "a.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def coco(scenes: Path, boxes: list[tuple[int, tuple[float, float, float, float]]]) -> str:
    annotations = [
        {"image_id": 7, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for category, (x0, y0, x1, y1) in boxes
    ]
    annotations.append({"image_id": 8, "category_id": 3, "bbox": [0, 0, 9, 9]})
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "broken.png"}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 9, "name": "yak"}],
        "annotations": annotations,
    }
    (scenes.parent / "boxes.json").write_text(json.dumps(content))
    return str(scenes.parent / "boxes.json")


def from_coco(scenes: Path) -> tuple[str, str | None]:
    return coco(scenes, [(3, CAT), (5, DOG), (9, (0, 0, 5, 5))]), str(scenes)


def from_yolo(scenes: Path) -> tuple[str, str | None]:
    labels = scenes.parent / "labels"
    labels.mkdir()
    x0, y0, x1, y1 = CAT
    box = f"0 {(x0 + x1) / 320} {(y0 + y1) / 200} {(x1 - x0) / 160} {(y1 - y0) / 100}"
    x0, y0, x1, y1 = DOG
    polygon = f"1 {x0 / 160} {y0 / 100} {x1 / 160} {y0 / 100} {x1 / 160} {y1 / 100}"
    (labels / "a.txt").write_text(f"{box}\n\n{polygon}\n")
    (scenes.parent / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    return str(scenes.parent / "data.yaml"), None


def from_store(scenes: Path) -> tuple[str, str | None]:
    masks = []
    for class_id, (name, (x0, y0, x1, y1)) in enumerate({"cat": CAT, "dog": DOG}.items()):
        mask = np.zeros((100, 160), dtype=np.bool_)
        mask[y0:y1, x0:x1] = True
        box, area = (x0, y0, x1, y1), int(mask.sum())
        masks.append(LabelledMask(encode_mask(mask), box, area, 0.9, 0.9, (0.0, 0.0), 0.9, class_id, name, 0.1))
    store = LabelStore(str(scenes.parent / "labels.store"))
    labels = ImageLabels((100, 160), tuple(masks), 0.5)
    image = ImageRow("a.png", str(scenes / "a.png"), labels, content_sha256=sha256_of(scenes / "a.png"))
    store.write_part(to_table([image]), {"input": str(scenes)})
    return store.uri, None


def cut(boxes: str, images: str | None, classes: Taxonomy = PETS, margin: float = 0.0) -> list[tuple[Any, np.ndarray]]:
    found = boxed_pictures(boxes, images, classes, margin, ImageLimits())
    return [(origin, np.asarray(Image.open(io.BytesIO(data)))) for origin, data in found]


@pytest.mark.parametrize("source", [from_coco, from_yolo, from_store])
def test_what_lies_in_a_box_becomes_an_exemplar(
    scenes: Path, source: Callable[[Path], tuple[str, str | None]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (cat, cat_pixels), (dog, dog_pixels) = cut(*source(scenes))
    assert (cat.subject, dog.subject, cat.source) == ("cat", "dog", "boxes")
    assert cat.url == f"{scenes}/a.png#xyxy=20,30,80,70"
    assert cat_pixels.shape == (40, 60, 3)
    assert (cat_pixels[2:-2, 2:-2, 0] > 200).all()
    assert dog_pixels.shape == (80, 30, 3)
    assert (dog_pixels[2:-2, 2:-2, 1] > 200).all()
    # The damaged image costs its own boxes alone.
    assert ("broken.png" in caplog.text) == (source is from_coco)


def test_surroundings_end_where_the_image_does(scenes: Path) -> None:
    boxes, images = from_coco(scenes)
    (_, cat), (_, dog) = cut(boxes, images, margin=0.5)
    assert cat.shape == (100, 110, 3)
    assert dog.shape == (100, 110, 3)


@pytest.mark.parametrize("box", [(150, 10, 170, 30), (-9, 0, 30, 30), (160, 0, 161, 9), (float("nan"), 0, 30, 30)])
def test_a_box_outside_its_image_is_named(scenes: Path, box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ConfigurationError, match=r"a\.png: the box .* of 'cat' does not lie in its image of 160 x 100"):
        cut(coco(scenes, [(3, box)]), str(scenes))


def test_a_subject_without_a_box_is_named(scenes: Path) -> None:
    with pytest.raises(ConfigurationError, match="no box of yak"):
        cut(*from_yolo(scenes), Taxonomy.parse("cat,yak"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.json", None, "check --boxes"),
        ("half.json", '{"images": [', "cannot be understood"),
        ("other.json", '{"shapes": []}', "no COCO file with boxes"),
        ("data.yaml", "train: images\n", "no data.yaml of YOLO"),
        ("data.yaml", "train: nowhere\nnames: [cat]\n", "there is no folder"),
    ],
)
def test_annotations_that_cannot_be_read_are_one_sentence(
    scenes: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (scenes.parent / name).write_text(content)
    images = str(scenes) if name.endswith(".json") else None
    with pytest.raises(ConfigurationError, match=message):
        cut(str(scenes.parent / name), images)


def test_a_box_smaller_than_a_pixel_is_a_pixel(scenes: Path) -> None:
    ((_, pixels),) = cut(coco(scenes, [(3, (30.2, 40.2, 30.4, 40.4))]), str(scenes), Taxonomy.parse("cat"))
    assert pixels.shape == (1, 1, 3)


def test_labels_of_yolo_that_are_no_text_are_named(scenes: Path) -> None:
    boxes, images = from_yolo(scenes)
    (scenes.parent / "labels" / "a.txt").write_bytes(b"\xff\xfe0")
    with pytest.raises(ConfigurationError, match=r"a\.txt cannot be understood"):
        cut(boxes, images)


def test_a_damaged_line_of_yolo_is_named(scenes: Path) -> None:
    boxes, images = from_yolo(scenes)
    (scenes.parent / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n4 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ConfigurationError, match="line 2"):
        cut(boxes, images)


def test_a_box_without_height_costs_itself_alone(scenes: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = coco(scenes, [(3, (50, 50, 50, 60)), (3, (10, 9, 30, 9)), (3, CAT)])
    with caplog.at_level(logging.WARNING):
        (_,) = cut(boxes, str(scenes), Taxonomy.parse("cat"))
    assert "2 boxes without width or height are left out" in caplog.text


def test_a_file_of_groups_says_so(scenes: Path) -> None:
    path = Path(coco(scenes, [(3, CAT)]))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"annotations": [one | {"iscrowd": 1} for one in content["annotations"]]}))
    with pytest.raises(ConfigurationError, match=r"boxes of groups only \(iscrowd 1\): 2 of cat.*as CVAT writes"):
        cut(str(path), str(scenes), Taxonomy.parse("cat"))


def test_annotations_of_unknown_images_and_without_boxes_are_left_out(
    scenes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(coco(scenes, [(3, CAT)]))
    content = json.loads(path.read_text())
    content["annotations"] += [{"image_id": 99, "category_id": 3}, {"image_id": 7, "category_id": 3, "bbox": []}]
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        (_,) = cut(str(path), str(scenes), Taxonomy.parse("cat"))
    assert "1 annotations belong to none of its images" in caplog.text


def test_roboflows_folders_are_found(scenes: Path) -> None:
    from_yolo(scenes)
    folder = scenes.parent / "train"
    folder.mkdir()
    scenes.rename(folder / "images")
    (scenes.parent / "labels").rename(folder / "labels")
    (scenes.parent / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat, dog]\n")
    assert len(cut(str(scenes.parent / "data.yaml"), None)) == 2
