from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth import (
    UNLABELLED,
    bsds_pictures,
    coco_instance_pictures,
    coco_panoptic_pictures,
    object_pictures,
    read_bsds,
    read_coco_instances,
    read_coco_panoptic,
    read_entityseg,
    voc_pictures,
)
from everymask.masks.rle import decode_mask


def write_image(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "red").save(path)


def write_panoptic(folder: Path, ids: NDArray[np.int64], segments: list[dict[str, Any]]) -> None:
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    (folder / "panoptic").mkdir()
    Image.fromarray(rgb).save(folder / "panoptic" / "1.png")
    content = {
        "images": [{"id": 5, "file_name": "photo.jpg"}],
        "annotations": [{"image_id": 5, "file_name": "1.png", "segments_info": segments}],
    }
    (folder / "panoptic.json").write_text(json.dumps(content))


def test_panoptic_segments_become_entities_and_unlabelled_pixels_none(tmp_path: Path) -> None:
    ids = np.array([[7, 7, 300], [0, 70000, 300]])
    segments = [{"id": 300, "iscrowd": 0}, {"id": 7, "iscrowd": 0}, {"id": 70000, "iscrowd": 1}]
    write_panoptic(tmp_path, ids, segments)
    truth = read_coco_panoptic(tmp_path)["photo.jpg"]
    assert truth.size_hw == (2, 3)
    assert truth.iscrowd == (False, False, True)
    for segment, entity in zip(segments, truth.entities, strict=True):
        np.testing.assert_array_equal(decode_mask(entity), ids == segment["id"])


def test_groups_of_panoptic_pictures_are_unlabelled(tmp_path: Path) -> None:
    segments = [{"id": 300, "iscrowd": 0}, {"id": 7, "iscrowd": 1}]
    write_panoptic(tmp_path, np.array([[7, 7, 300], [0, 300, 300]]), segments)
    write_image(tmp_path / "images" / "photo.jpg", 3, 2)
    (reference,) = coco_panoptic_pictures(tmp_path)
    picture = reference.read()
    assert picture.name == reference.name == f"coco_panoptic/{tmp_path.name}/photo"
    assert (picture.image.shape, picture.complete) == ((2, 3, 3), True)
    assert picture.label_maps[0].tolist() == [[UNLABELLED, UNLABELLED, 0], [UNLABELLED, 0, 0]]


def test_smaller_instances_are_in_front_and_groups_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.jpg", 8, 6)

    def box(x0: int, y0: int, x1: int, y1: int, **more: int) -> dict[str, Any]:
        return {"image_id": 1, "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]], **more}

    annotations = [box(0, 0, 2, 2), box(0, 0, 8, 4), box(0, 4, 8, 6, iscrowd=1)]
    content = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": annotations}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (reference,) = coco_instance_pictures(tmp_path)
    (labels,) = reference.read().label_maps
    assert labels[:2, :2].tolist() == [[1, 1], [1, 1]]
    assert (labels[:4] >= 0).all()
    assert (labels[4:] == UNLABELLED).all()


def test_void_borders_of_voc_are_shared_and_background_is_unlabelled(tmp_path: Path) -> None:
    objects = np.zeros((20, 40), dtype=np.uint8)
    objects[:, 10:20] = 3
    objects[:, 20:24] = 255  # A border: half of it belongs to the object.
    for folder in ("SegmentationObject", "SegmentationClass"):
        (tmp_path / folder).mkdir()
        Image.fromarray(objects).save(tmp_path / folder / "7.png")
    write_image(tmp_path / "JPEGImages" / "7.jpg", 40, 20)
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in ("val", "train_aug"):
        (lists / f"{split}.txt").write_text("7\n")
    (reference,) = voc_pictures(tmp_path, "val")
    picture = reference.read()
    assert (picture.image.shape, picture.complete, picture.sharp) == ((20, 40, 3), False, True)
    row = picture.label_maps[0][0].tolist()
    assert row == [UNLABELLED] * 10 + [3] * 12 + [UNLABELLED] * 18
    assert not voc_pictures(tmp_path, "train_aug")[0].read().sharp
    with pytest.raises(ConfigurationError, match="no list"):
        voc_pictures(tmp_path, "test")


def test_an_object_in_parts_is_a_whole_and_its_connected_parts(tmp_path: Path) -> None:
    values = np.zeros((20, 40), dtype=np.uint8)
    values[:, 2:12], values[:, 20:30], values[:, 30:38], values[0, 0] = 5, 5, 9, 5
    (tmp_path / "labels").mkdir()
    Image.fromarray(values).save(tmp_path / "labels" / "a.png")
    Image.fromarray((values > 0).astype(np.uint8)).save(tmp_path / "labels" / "b.png")
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.jpg", 40, 20)
    parted, plain = (reference.read() for reference in object_pictures(tmp_path))
    whole, parts = parted.label_maps
    assert np.array_equal(whole == 0, values > 0)
    assert len(np.unique(parts)) == 1 + 3  # Equal values apart are two parts; the single pixel is left out.
    assert parts[0, 0] == UNLABELLED
    assert len(plain.label_maps) == 1
    assert [picture.complete for picture in (parted, plain)] == [False, False], "the rest of the scene is unlabelled"


def test_every_annotator_is_read(tmp_path: Path) -> None:
    (tmp_path / "segments").mkdir()
    for annotator in range(2):
        Image.fromarray(np.full((2, 3), annotator, dtype=np.uint16)).save(tmp_path / "segments" / f"12_{annotator}.png")
    truth = read_bsds(tmp_path)
    assert [label_map[0, 0] for label_map in truth["12.jpg"]] == [0, 1]
    (reference,) = bsds_pictures(tmp_path)
    with pytest.raises(ConfigurationError, match=r"12\.jpg is annotated but not there"):
        reference.read()
    write_image(tmp_path / "images" / "12.jpg", 3, 2)
    assert [label_map[0, 0] for label_map in reference.read().label_maps] == [0, 1]


def test_a_folder_without_ground_truth_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"holds no panoptic\.json"):
        read_coco_panoptic(tmp_path)
    with pytest.raises(ConfigurationError, match="holds no segments"):
        read_bsds(tmp_path)
    with pytest.raises(ConfigurationError, match="holds no labels"):
        object_pictures(tmp_path)


@pytest.mark.shared_data
def test_real_annotations_agree_with_their_own_areas(shared_data: Path) -> None:
    folder = shared_data / "coco_panoptic" / "val"
    truth = read_coco_panoptic(folder)
    content = json.loads((folder / "panoptic.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    for annotation in content["annotations"]:
        entities = truth[names[annotation["image_id"]]].entities
        assert [int(decode_mask(rle).sum()) for rle in entities] == [
            segment["area"] for segment in annotation["segments_info"]
        ]


def instances(folder: Path, times: int = 1, **annotation: Any) -> Path:
    """A file of one image with one sound annotation and some of other fields; None takes a field away."""
    sound = {"id": 1, "image_id": 1, "category_id": 0, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]], "bbox": [1, 1, 4, 4]}
    odd = {name: value for name, value in (sound | {"id": 2} | annotation).items() if value is not None}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 20}],
        "categories": [{"id": 0, "name": "cat"}],
        "annotations": [sound, *[odd] * times],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("odd", "warning"),
    [
        ({"segmentation": []}, "2 annotations without an outline are left out"),
        ({"image_id": 7}, "2 annotations belong to none of its images and are left out"),
    ],
)
def test_annotations_that_show_nothing_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, odd: dict[str, Any], warning: str
) -> None:
    truth = read_coco_instances(instances(tmp_path, times=2, **odd), Taxonomy.parse("cat"))
    assert [(one.area, one.iscrowd) for one in truth["a.jpg"].instances] == [(16.0, False)]
    assert caplog.messages == [f"{tmp_path / 'instances.json'}: {warning}"]
    caplog.clear()
    assert [reference.name for reference in coco_instance_pictures(tmp_path)] == [f"coco_instances/{tmp_path.name}/a"]
    of_pictures = [f"{tmp_path / 'instances.json'}: {warning}"] if "image_id" in odd else []
    assert caplog.messages == of_pictures


@pytest.mark.parametrize(
    ("odd", "problem"),
    [
        ({"category_id": None}, "something in it has no 'category_id'"),
        ({"segmentation": [[1, 1, 1e9, 1, 5, 5]]}, "annotation 2: a polygon has a corner"),
        ({"segmentation": {"size": [20, 20], "counts": [1]}}, "annotation 2: a mask's run lengths do not add up"),
        ({"segmentation": {"size": [9, 9], "counts": "0"}}, r"annotation 2: its run lengths are of"),
        ({"segmentation": 5}, "annotation 2: its segmentation is 5"),
        ({"area": "much"}, "could not convert"),
        ({"category_id": [0]}, "unhashable"),
    ],
)
def test_wrong_truth_is_a_sentence(tmp_path: Path, odd: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"instances\.json is no complete COCO file: .*{problem}"):
        read_coco_instances(instances(tmp_path, **odd), Taxonomy.parse("cat"))


@pytest.mark.parametrize("content", ["{", "[]", "[" * 10**5, "\x00"])
def test_truth_that_is_no_json_object_is_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"instances\.json is no"):
        read_coco_instances(tmp_path, Taxonomy.parse("cat"))


def test_a_segment_that_does_not_say_whether_it_is_a_group_is_none(tmp_path: Path) -> None:
    write_panoptic(tmp_path, np.array([[7, 7, 300], [0, 0, 300]]), [{"id": 300}, {"id": 7}])
    assert read_coco_panoptic(tmp_path)["photo.jpg"].iscrowd == (False, False)


def test_strangers_and_gaps_in_panoptic_files_are_told_by_the_files_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_panoptic(tmp_path, np.array([[7, 7]]), [{"id": 7}])
    file = tmp_path / "panoptic.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"annotations": [*content["annotations"], {"image_id": 9}]}))
    assert list(read_coco_panoptic(tmp_path)) == ["photo.jpg"]
    assert len(coco_panoptic_pictures(tmp_path)) == 1
    assert caplog.messages == [f"{file}: 1 annotations belong to none of its images and are left out"] * 2
    file.write_text(json.dumps(content | {"images": [{"id": 5}]}))
    for read in (read_coco_panoptic, coco_panoptic_pictures):
        with pytest.raises(ConfigurationError) as told:
            read(tmp_path)
        assert str(told.value) == f"{file} is no complete COCO file: something in it has no 'file_name'"


def test_entityseg_has_entities_of_any_class_by_file_name(tmp_path: Path) -> None:
    file = tmp_path / "HR.json"
    square = [[1, 2, 5, 2, 5, 6, 1, 6]]
    annotations: list[dict[str, Any]] = [
        {"image_id": 3, "segmentation": square},
        {"image_id": 3, "segmentation": {"size": [8, 10], "counts": [40, 40]}, "iscrowd": 1},
    ]
    images = [
        {"id": 3, "file_name": "deep/a.jpg", "width": 10, "height": 8},
        {"id": 4, "file_name": "b.jpg", "width": 7, "height": 5},
    ]
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    truth = read_entityseg(file)
    assert {name: (one.size_hw, one.iscrowd) for name, one in truth.items()} == {
        "deep/a.jpg": ((8, 10), (False, True)),
        "b.jpg": ((5, 7), ()),
    }
    first, second = (decode_mask(rle) for rle in truth["deep/a.jpg"].entities)
    expected = np.zeros((8, 10), dtype=np.bool_)
    expected[2:6, 1:5] = True
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, np.arange(10) >= 5 * np.ones((8, 1)))

    for wrong, problem in [
        ({"images": images}, "it needs `images` and `annotations`"),
        ({"images": images, "annotations": [{"image_id": 5}]}, "annotates image 5, which it does not list"),
        ({"images": [{"id": 3}], "annotations": []}, "something in it has no 'height'"),
    ]:
        file.write_text(json.dumps(wrong))
        with pytest.raises(ConfigurationError, match=problem):
            read_entityseg(file)
    with pytest.raises(ConfigurationError, match="there is no file"):
        read_entityseg(tmp_path / "LR.json")
