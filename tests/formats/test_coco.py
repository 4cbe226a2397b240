"""pycocotools reads the export, and finds the masks that were stored."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from everymask.errors import InputError
from everymask.labels.rows import to_table
from everymask.labels.store import LabelStore
from tests.formats.exporting import run_export
from tests.labels.examples import images, labels, ring_and_disc


@pytest.mark.parametrize("segmentation", ["rle", "uncompressed", "polygon"])
def test_pycocotools_finds_every_mask_exactly(entities: LabelStore, tmp_path: Path, segmentation: str) -> None:
    report = run_export(entities, "coco", tmp_path / "out.json", segmentation)
    assert (report.images, report.masks, report.errors, report.loss.worst_iou) == (2, 2, 1, 1.0)
    coco = COCO(str(tmp_path / "out.json"))
    (image,) = [image for image in coco.imgs.values() if image["file_name"] == "a/1.jpg"]
    assert (image["width"], image["height"]) == (60, 40)
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
    assert len(annotations) == 2
    for annotation, mask, record in zip(annotations, ring_and_disc(), labels().masks, strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), mask)
        assert annotation["area"] == mask.sum()
        assert annotation["iscrowd"] == 0
        x0, y0, x1, y1 = record.box_xyxy
        assert annotation["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert annotation["score"] == record.score
    assert coco.loadCats(coco.getCatIds()) == [{"id": 1, "name": "entity", "supercategory": ""}]


def test_large_masks_are_written_one_by_one_and_alike(
    entities: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_export(entities, "coco", tmp_path / "together.json", "uncompressed")
    monkeypatch.setattr("everymask.formats.coco._CHARACTERS_AT_ONCE", 0)
    run_export(entities, "coco", tmp_path / "alone.json", "uncompressed")
    assert (tmp_path / "alone.json").read_text() == (tmp_path / "together.json").read_text()


def test_ids_and_images_are_in_order_whatever_the_parts_are(tmp_path: Path) -> None:
    rows = images(classes=True)
    texts = []
    for name, parts in (("one", [rows]), ("three", [[row] for row in rows[::-1]])):
        store = LabelStore(str(tmp_path / name))
        for part in parts:
            store.write_part(to_table(part))
        run_export(store, "coco", tmp_path / f"{name}.json")
        texts.append((tmp_path / f"{name}.json").read_text())
    assert texts[0] == texts[1]
    content = json.loads(texts[0])
    assert [image["file_name"] for image in content["images"]] == ["a/1.jpg", "b/1.jpg"]
    assert [annotation["id"] for annotation in content["annotations"]] == [1, 2]
    assert {annotation["image_id"] for annotation in content["annotations"]} == {1}


def test_classes_become_categories_from_one(classes: LabelStore, tmp_path: Path) -> None:
    run_export(classes, "coco", tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert [(item["id"], item["name"]) for item in content["categories"]] == [(1, "cat"), (2, "dog")]
    assert [annotation["category_id"] for annotation in content["annotations"]] == [1, 2]
    assert content["annotations"][0]["uncertainty"] == 0.25


def test_images_of_concepts_hold_presence_by_class(tmp_path: Path) -> None:
    # A copy: an export leaves a record of itself in its store.
    golden = Path(__file__).parents[1] / "labels" / "golden" / "format-4-concepts"
    shutil.copytree(golden, tmp_path / "store")
    run_export(LabelStore(str(tmp_path / "store")), "coco", tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())["images"]
    assert [image["presence"] for image in found] == [{"cat": 0.96875, "dog": 0.6875}, {"cat": 0.03125, "dog": 0.0}]
    assert len(COCO(str(tmp_path / "out.json")).getAnnIds()) == 2


def test_golden_annotation(classes: LabelStore, tmp_path: Path) -> None:
    """The format is a contract: a change of any key must be meant."""
    run_export(classes, "coco", tmp_path / "out.json")
    annotation = json.loads((tmp_path / "out.json").read_text())["annotations"][0]
    (mask_id,) = {image.labels.masks[0].mask_id for image in classes.images() if image.labels and image.labels.masks}
    assert annotation == {
        "id": 1,
        "everymask_id": mask_id,
        "image_id": 1,
        "category_id": 1,
        "segmentation": dict(labels().masks[0].rle),
        "area": 604,
        "bbox": [5, 4, 32, 32],
        "iscrowd": 0,
        "score": 0.875,
        "predicted_iou": 0.75,
        "stability_score": 0.5,
        "uncertainty": 0.25,
    }


def test_a_store_without_a_mask_is_valid_coco(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    store.write_part(to_table(images()[1:]))
    assert run_export(store, "coco", tmp_path / "out.json").masks == 0
    assert COCO(str(tmp_path / "out.json")).getAnnIds() == []


def test_no_store_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a label store"):
        run_export(LabelStore(str(tmp_path / "nothing")), "coco", tmp_path / "out.json")
    assert list(tmp_path.glob("*")) == []
