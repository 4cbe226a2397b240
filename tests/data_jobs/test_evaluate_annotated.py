"""A store held against what people have drawn in annotation tools."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data_jobs import evaluate, label_dataset
from data_jobs.evaluation.annotated_store import measure_annotated
from data_jobs.evaluation.config import StoredConfig
from everymask.errors import ConfigurationError, InputError
from everymask.evaluation.ground_truth.yolo import yolo_masks
from everymask.evaluation.thresholds import MIN_OBJECTS, Judged, best_threshold, is_for_choosing
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import rle_areas
from everymask.records import ImageLabels
from tests.formats.exporting import run_export
from tests.formats.shapes import shape_store
from tests.labels.examples import mask_record
from tests.review.import_fuzz import submitted

TOOLS = ["coco", "label-studio", "x-anylabeling", "labelme", "cvat", "yolo"]
FILES = {"coco": "out.json", "label-studio": "out.json", "cvat": "out.xml"}


def exported(store: LabelStore, tool: Any, folder: Path) -> Path:
    """The store's own masks, as a person has left them in a tool."""
    output = folder / FILES.get(tool, "out")
    run_export(store, tool, output, tolerance_px=0.0 if tool in ("x-anylabeling", "yolo") else None)
    if tool == "yolo":
        return output / "data.yaml"
    for file in [output] if output.is_file() else output.rglob("*.json"):
        if tool != "cvat" and file.name[0] != ".":
            file.write_text(json.dumps(submitted(json.loads(file.read_text()), tool)))
    return output


@pytest.mark.parametrize("tool", TOOLS)
def test_labels_agree_with_themselves_whatever_tool_they_went_through(tmp_path: Path, tool: Any) -> None:
    store = shape_store(tmp_path)
    figures = measure_annotated(StoredConfig(store.uri, exported(store, tool, tmp_path), tool))
    exact = tool != "yolo"  # which joins parts by lines
    assert figures["mean"]["instances"] == 11
    for row in figures.values():
        assert row["IoU"] == pytest.approx(1.0, abs=0 if exact else 0.2)
    assert figures["mean"]["AP"] == pytest.approx(1.0, abs=0 if exact else 0.4)


def test_a_page_shows_the_worst_images_first(tmp_path: Path, capsys: Any) -> None:
    store = shape_store(tmp_path)
    truth = exported(store, "coco", tmp_path)
    content = json.loads(truth.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 2]  # portrait.jpg
    content["annotations"] += [{"id": 99, "image_id": 3, "category_id": 1, "bbox": [1, 1, 5, 5], "segmentation": []}]
    truth.write_text(json.dumps(content))
    page = tmp_path / "worst.html"
    words = ["--labels", store.uri, "--path", str(truth), "--ground-truth", "coco", "--worst", str(page)]
    words += ["--local-root", str(tmp_path / "pictures")]
    assert evaluate.stored(words) == 0
    assert "left out: 1 x box in place of an outline" in capsys.readouterr().err
    text = page.read_text()
    assert text.index("portrait.jpg") < text.index("shapes/all.png")
    assert text.count("data:image/jpeg") == 6


def scored_store(folder: Path) -> LabelStore:
    """Forty images with a right cat of probability 0.8 and a wrong one of 0.75."""
    right, wrong = np.zeros((2, 40, 60), dtype=np.bool_)
    right[5:15, 5:15] = wrong[25:35, 40:50] = True
    rows = []
    for number in range(40):
        masks = [replace(mask_record(right, 0.8 * 0.75, 0)), replace(mask_record(wrong, 0.75 * 0.75, 0))]
        rows.append(ImageRow(f"{number}.jpg", f"/photos/{number}.jpg", ImageLabels((40, 60), tuple(masks), 0.1)))
    store = LabelStore(str(folder / "store"))
    store.write_part(to_table(rows))
    return store


def test_thresholds_are_chosen_on_one_half_measured_on_the_other_and_taken_by_label(
    tmp_path: Path, capsys: Any
) -> None:
    store = scored_store(tmp_path)
    truth = exported(store, "coco", tmp_path)
    content = json.loads(truth.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["bbox"][0] == 5]
    truth.write_text(json.dumps(content))
    output = tmp_path / "thresholds.yaml"
    figures = measure_annotated(StoredConfig(store.uri, truth, "coco", thresholds=output))
    assert figures["cat"]["F1 before"] == pytest.approx(2 / 3)
    assert figures["cat"]["F1 with it"] == 1.0
    chosen = yaml.safe_load(output.read_text())["classes"]["class_score_thresh"]
    assert 0.75 < chosen["cat"] < 0.8
    capsys.readouterr()
    assert label_dataset.command(["--config", str(output), "--head", "everyday", "--print-config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["classes"]["class_score_thresh"] == chosen


def test_a_store_of_classes_in_which_none_was_found_is_measured_by_its_classes(tmp_path: Path) -> None:
    store, empty = shape_store(tmp_path), LabelStore(str(tmp_path / "empty"))
    truth = exported(store, "coco", tmp_path)
    rows = [replace(row, labels=replace(row.labels, masks=())) for row in store.images() if row.labels is not None]
    empty.write_part(to_table(rows), {"method": "classes", "class_names": ["cat", "dog"]})
    figures = measure_annotated(StoredConfig(empty.uri, truth, "coco", worst=tmp_path / "worst.html"))
    assert [figures[name]["IoU"] for name in ("cat", "dog")] == [0.0, 0.0]
    assert (tmp_path / "worst.html").is_file()


def test_a_class_of_few_objects_keeps_its_threshold() -> None:
    judged = Judged([0.9, 0.8, 0.4], [True, False, True], MIN_OBJECTS)
    assert best_threshold(judged) == 0.0  # lowest of those with the highest F1
    assert best_threshold(replace(judged, right=[True, False, False])) == pytest.approx(0.85)
    assert best_threshold(replace(judged, objects=MIN_OBJECTS - 1)) is None
    assert {is_for_choosing(f"{number}.jpg") for number in range(20)} == {True, False}


def test_truth_of_other_images_or_of_nothing_is_a_sentence(tmp_path: Path) -> None:
    store = shape_store(tmp_path)
    truth = exported(store, "coco", tmp_path)
    content = json.loads(truth.read_text())
    for image in content["images"]:
        image["file_name"] = f"other-{image['id']}.png"
    truth.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"annotates no image of .*other-1\.png is not in the store"):
        measure_annotated(StoredConfig(store.uri, truth, "coco"))
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\n")
    with pytest.raises(InputError, match="has no label file"):
        measure_annotated(StoredConfig(store.uri, tmp_path / "data.yaml", "yolo"))
    with pytest.raises(ConfigurationError, match="need annotations of a tool"):
        StoredConfig(store.uri, truth, "voc", worst=tmp_path / "x.html")


def test_outlines_of_yolo_may_run_along_the_images_edges_and_boxes_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("1 0 0 1 0 1 1 0 1\n\n0 0.5 0.5 0.2 0.2\n")
    (whole,), boxes = yolo_masks(file, {0: "cat", 1: "dog"}, (20, 30))
    assert (int(rle_areas([whole.rle])[0]), whole.class_name, boxes) == (20 * 30, "dog", 1)
    file.write_text("0 0.5 0.25 1 0.25 1 0.75 0.5 0.75\n")
    (right,), _ = yolo_masks(file, {0: "cat"}, (20, 30))
    assert int(rle_areas([right.rle])[0]) == 15 * 11
    file.write_text("1 0 0 1.1 0 1 1 0 1\n")
    with pytest.raises(InputError, match=r"a\.txt, line 1 is no outline of YOLO"):
        yolo_masks(file, {1: "dog"}, (20, 30))


def test_groups_only_are_taken_as_objects_and_said(tmp_path: Path, capsys: Any) -> None:
    store = shape_store(tmp_path)
    truth = exported(store, "coco", tmp_path)
    content = json.loads(truth.read_text())
    content["annotations"] = [one | {"iscrowd": 1} for one in content["annotations"]]
    truth.write_text(json.dumps(content))
    assert measure_annotated(StoredConfig(store.uri, truth, "coco"))["mean"]["AP50"] == 1.0
    assert "every annotation is a group (iscrowd 1)" in capsys.readouterr().err
