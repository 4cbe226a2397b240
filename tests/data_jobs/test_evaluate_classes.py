from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_jobs.evaluation.config import StoredConfig
from data_jobs.evaluation.figures import table
from data_jobs.evaluation.stored_labels import measure_store
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.embeddings import MaskEmbeddings, StoredEmbeddings, write_embeddings
from everymask.classes.features import MaskFeatures
from everymask.classes.head import ClassHead, HeadSpec, save_head
from everymask.classes.segmenter import classify_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.evaluation.doubt import doubt_figures
from everymask.evaluation.ground_truth import read_coco_instances
from everymask.evaluation.semantic import semantic_figures
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from tests.evaluation.labels import labels

SIZE = (10, 20)


def half(x0: int, x1: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[:, x0:x1] = True
    return mask


def store(tmp_path: Path, *named: tuple[np.ndarray, str]) -> str:
    place = LabelStore(str(tmp_path / "labels"))
    found = labels([mask for mask, _ in named], [0.9] * len(named), SIZE)
    masks = [replace(mask, class_id=5, class_name=name) for mask, (_, name) in zip(found.masks, named, strict=True)]
    place.write_part(to_table([ImageRow("a.jpg", "/a.jpg", replace(found, masks=tuple(masks)), None)]))
    return place.uri


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 10, "width": 20}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": category, "segmentation": dict(encode_mask(mask)), "area": 1, "iscrowd": 0}
            for category, mask in ((1, half(0, 5)), (2, half(10, 20)))
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


def test_labels_are_measured_on_the_classes_they_name(tmp_path: Path, coco: Path) -> None:
    uri = store(tmp_path, (half(0, 5), "cat"), (half(10, 15), "cat"))
    figures = measure_store(StoredConfig(path=coco, labels=uri, ground_truth="coco_instances"))
    assert figures["cat"]["IoU"] == pytest.approx(50 / 100)
    assert list(figures) == ["mean", "background", "cat"]
    assert "50.0" in table(figures)


def test_classes_that_gather_several_of_the_ground_truth(tmp_path: Path, coco: Path) -> None:
    uri = store(tmp_path, (half(0, 5), "pet"), (half(10, 20), "pet"))
    config = StoredConfig(path=coco, labels=uri, ground_truth="coco_instances", classes="pet=cat+dog")
    assert measure_store(config)["mean"] == {"IoU": pytest.approx(1.0), "AP50": pytest.approx(1.0), "instances": 2}
    with pytest.raises(ConfigurationError, match="does not know pet"):
        measure_store(replace(config, classes=None))


def test_pascal_voc(tmp_path: Path) -> None:
    for name, value in (("SegmentationClass", 8), ("SegmentationObject", 1)):
        (tmp_path / name).mkdir()
        Image.fromarray(half(0, 5).astype(np.uint8) * value).save(tmp_path / name / "a.png")
    (tmp_path / "JPEGImages").mkdir()
    uri = store(tmp_path, (half(0, 5), "cat"))
    assert measure_store(StoredConfig(path=tmp_path, labels=uri, ground_truth="voc"))["mean"]["AP50"] == pytest.approx(
        1.0
    )


def test_a_head_and_mask_embeddings_tell_of_doubt_and_of_masks_below_the_threshold(tmp_path: Path, coco: Path) -> None:
    uri = store(tmp_path, (half(0, 5), "cat"))
    rng = np.random.default_rng(0)
    tokens, rles = rng.normal(size=(5, 4)).astype(np.float16), [encode_mask(half(*at)) for at in _HALVES]
    ones, nothing = np.ones(5, dtype=np.float32), np.zeros((5, 0), dtype=np.float16)
    features, grid = MaskFeatures(tokens, nothing, nothing), np.zeros((5, 256), dtype=np.uint8)
    points = np.zeros((5, 2), dtype=np.float32)
    masks = MaskEmbeddings(SIZE, features, ones, ones, ones, grid, points, tuple(rles), "colour", "a" * 64)
    write_embeddings(tmp_path / "masks", [StoredEmbeddings("deep/a.jpg", "", "", masks)], MaskConfig())
    torch.manual_seed(3)
    head = ClassHead(HeadSpec(("cat", "dog"), "colour", "a" * 64, "token", 4, 0, score_thresh=1.0)).eval()
    save_head(head, tmp_path / "head.safetensors")

    config = StoredConfig(uri, coco, "coco_instances", classes="cat,dog")
    with_head = {"embeddings": str(tmp_path / "masks"), "head": str(tmp_path / "head.safetensors")}
    figures = measure_store(replace(config, **with_head))
    truth = read_coco_instances(coco, Taxonomy.parse("cat,dog"))
    doubt = doubt_figures(head, {"a.jpg": masks}, truth, ("cat", "dog"))
    assert [doubt.wrong_name is None, doubt.missed_object is None] == [False, True]
    assert figures["mean"]["AUROC wrong name"] == doubt.wrong_name
    assert figures["mean"]["AUROC missed object"] == doubt.missed_object
    named = classify_masks(masks, head, ClassesConfig(score_thresh=0.0))
    direct = semantic_figures({"a.jpg": named}, truth, ("cat", "dog"))
    assert figures["mean"]["AP50, no threshold"] == direct.map50 > 0
    assert figures["dog"]["AP50, no threshold"] == direct.classes["dog"].ap50
    assert "AUROC" in table(figures)


_HALVES = ((0, 5), (10, 20), (5, 10), (0, 6), (11, 20))


def test_embeddings_go_with_a_head(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="go together"):
        StoredConfig("labels", tmp_path, "coco_instances", embeddings="masks")
    with pytest.raises(ConfigurationError, match="measures classes"):
        StoredConfig("labels", tmp_path, embeddings="masks", head="head.safetensors")
