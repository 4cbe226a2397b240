"""Data sets in the layouts that trainers open: names, numbers, images inside, licences beside."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from everymask.classes.exemplars.manifest import MANIFEST
from everymask.errors import ConfigurationError
from everymask.formats import hugging_face, web_dataset
from everymask.formats.splits import SplitOptions
from everymask.labels.provenance import RunRecord, write_run
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.formats.exporting import run_export
from tests.formats.shapes import shape_store
from tests.labels.examples import mask_record


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    """Every shape that formats get wrong, an image without a mask, and an EXIF portrait."""
    return shape_store(tmp_path)


@pytest.fixture
def split(tmp_path: Path) -> SplitOptions:
    """One image for training, one for validation, one for test."""
    names = {"shapes/all.png": "train", "portrait.jpg": "val", "none.png": "test"}
    (tmp_path / "splits.csv").write_text("image_id,split\n" + "".join(f"{k},{v}\n" for k, v in names.items()))
    return SplitOptions(file=str(tmp_path / "splits.csv"))


def test_roboflows_layout_counts_from_zero_and_says_valid(
    store: LabelStore, split: SplitOptions, tmp_path: Path
) -> None:
    run_export(store, "coco-roboflow", tmp_path / "out", split=split, images="copy")
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"train", "valid", "test"}
    content = json.loads((tmp_path / "out/train/_annotations.coco.json").read_text())
    assert [item["id"] for item in content["categories"]] == [0, 1, 2]
    assert content["categories"][0]["supercategory"] == "none"
    assert content["annotations"][0]["id"] == 0
    (image,) = content["images"]
    assert (tmp_path / "out/train" / image["file_name"]).is_file()
    assert {item["image_id"] for item in content["annotations"]} == {image["id"]}


def test_cocos_folders_have_a_file_for_each_split(store: LabelStore, split: SplitOptions, tmp_path: Path) -> None:
    run_export(store, "coco-folders", tmp_path / "out", split=split, images="copy")
    for name, masks in (("train", 10), ("val", 1), ("test", 0)):
        content = json.loads((tmp_path / f"out/annotations/instances_{name}.json").read_text())
        assert len(content["annotations"]) == masks
        assert [item["id"] for item in content["categories"]] == [1, 2]
        (image,) = content["images"]
        assert (tmp_path / "out" / name / image["file_name"]).is_file()
    assert not list((tmp_path / "out").rglob("*.spool"))


def test_the_card_names_features_and_splits(store: LabelStore, split: SplitOptions, tmp_path: Path) -> None:
    run_export(store, "huggingface", tmp_path / "out", split=split, images="copy")
    _, front, _ = (tmp_path / "out/README.md").read_text().split("---\n")
    content = yaml.safe_load(front)
    assert [(item["name"], item["num_examples"]) for item in content["dataset_info"]["splits"]] == [
        ("train", 1),
        ("val", 1),
        ("test", 1),
    ]
    features = {item.pop("name"): item for item in content["dataset_info"]["features"]}
    objects = {item.pop("name"): item for item in features["objects"]["list"]}
    assert features["masks"] == features["image"] == {"dtype": "image"}
    assert objects["category"] == {"dtype": {"class_label": {"names": {"0": "cat", "1": "dog"}}}}
    assert objects["bbox"] == {"list": "float64"}
    (row,) = pq.read_table(tmp_path / "out/data/val-00000.parquet").to_pylist()
    with Image.open(BytesIO(row["image"]["bytes"])) as picture:
        assert picture.size == (row["width"], row["height"]) == (30, 40)


def test_a_person_reads_the_cards_class_names(tmp_path: Path) -> None:
    store = LabelStore(str(tmp_path / "store"))
    bear = replace(mask_record(np.ones((10, 10), bool), 0.9, 0), class_name="Bär")
    store.write_part(to_table([ImageRow("a.png", "a.png", ImageLabels((10, 10), (bear,), 1.0))]))
    run_export(store, "huggingface", tmp_path / "out")
    assert "'0': Bär" in (tmp_path / "out/README.md").read_text(encoding="utf-8")


def test_masks_below_others_have_run_lengths(tmp_path: Path) -> None:
    whole, corner = np.ones((10, 10), bool), np.zeros((10, 10), bool)
    corner[:5, :5] = True
    store = LabelStore(str(tmp_path / "store"))
    both = ImageLabels((10, 10), (mask_record(corner, 0.9, 1), mask_record(whole, 0.8, 0)), 1.0)
    store.write_part(to_table([ImageRow("a.png", "a.png", both)]))
    report = run_export(store, "huggingface", tmp_path / "out")
    assert (report.loss.changed, report.loss.overlapping) == (0, 0)
    (row,) = pq.read_table(tmp_path / "out/data").to_pylist()
    assert [item["counts"] for item in row["objects"]] == [None, both.masks[1].rle["counts"]]


def test_files_and_shards_end_at_their_size(store: LabelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugging_face, "_GROUP_ROWS", 1)
    monkeypatch.setattr(hugging_face, "_FILE_BYTES", 1)
    monkeypatch.setattr(web_dataset, "_SHARD_BYTES", 1)
    run_export(store, "huggingface", tmp_path / "hf", images="copy")
    run_export(store, "webdataset", tmp_path / "wds", images="copy")
    assert len(list((tmp_path / "hf/data").iterdir())) == 3
    assert pq.read_table(tmp_path / "hf/data").num_rows == 3
    assert len(list((tmp_path / "wds").glob("train-*.tar"))) == 3


def test_samples_keep_the_keys_of_their_source(store: LabelStore, tmp_path: Path) -> None:
    run_export(store, "webdataset", tmp_path / "out", images="copy")
    with tarfile.open(tmp_path / "out/train-000000.tar") as tar:
        names = tar.getnames()
        assert tar.extractfile("none.png").read() == (tmp_path / "pictures/none.png").read_bytes()
    assert {name for name in names if name.startswith("shapes")} == {
        "shapes/all.png",
        "shapes/all.index.png",
        "shapes/all.json",
    }


def test_links_cannot_be_embedded(store: LabelStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot link"):
        run_export(store, "webdataset", tmp_path / "out", images="link")


def test_licences_lie_beside_every_export(store: LabelStore, tmp_path: Path) -> None:
    write_run(store, RunRecord({"model": "sam3", "class_names": ["cat", "dog"]}))
    run_export(store, "coco", tmp_path / "out.json")
    text = (tmp_path / "out.LICENSES.txt").read_text()
    assert "Model: sam3, SAM License." in text
    assert "sam3/blob/main/LICENSE" in text
    assert "--exemplars DIR" in text
    exemplars = tmp_path / "exemplars"
    (exemplars / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(exemplars / "cat" / "a.jpg")
    line = {
        **{"file": "cat/a.jpg", "class_name": "cat", "sha256": "0" * 64, "perceptual_hash": "0" * 16},
        **{"subject": "cat", "source": "crawl", "license": "by-sa", "creator": "A. Person"},
        "landing_url": "https://example.org/cat",
    }
    (exemplars / MANIFEST).write_text(json.dumps(line) + "\n")
    run_export(store, "yolo", tmp_path / "yolo", exemplars=str(exemplars))
    text = (tmp_path / "yolo" / "LICENSES.txt").read_text()
    assert "cat/a.jpg: by-sa, A. Person, https://example.org/cat" in text
