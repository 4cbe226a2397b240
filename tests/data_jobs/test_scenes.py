"""A head is measured on the scenes that people have annotated, and learns from none of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from data_jobs.evaluation.figures import class_rows
from data_jobs.exemplars.scenes import choose_scenes, measure_scenes
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.bags import no_bags
from everymask.classes.training.report import MeasuredScenes, training_report
from everymask.classes.training.train import TrainingResult
from everymask.errors import ConfigurationError, InputError
from tests.classes.stored import CONFIG, record
from tests.classes.toy import colour_head, picture

HEAD = colour_head()
TAXONOMY = Taxonomy((("cherry", "cherry"), ("key lime", "lime")))
CHERRY, LIME = (4, 4, 20, 24), (26, 10, 44, 34)
SCENES = {
    "a.png": [("cherry", CHERRY), ("lime", LIME)],
    "b.png": [("cherry", CHERRY)],
    "plain/c.png": [],
    "plain/d.png": [],
}


def coco(boxes: dict[str, list[tuple[str, tuple[int, int, int, int]]]], names: list[str]) -> str:
    """A COCO file of rectangles."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for image_id, (name, found) in enumerate(boxes.items(), start=1):
        images.append({"id": image_id, "file_name": name, "width": 48, "height": 40})
        for word, (x0, y0, x1, y1) in found:
            ring = [x0, y0, x1, y0, x1, y1, x0, y1]
            annotation = {"image_id": image_id, "category_id": names.index(word) + 1, "segmentation": [ring]}
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, **annotation, **box})
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, objects in SCENES.items():
        data = io.BytesIO()
        Image.fromarray(picture(objects)).save(data, "PNG", comment=name)
        file = tmp_path / "scenes" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        # Each its own bytes, since pictures are known by their digest.
        file.write_bytes(data.getvalue() + name.encode())
    return tmp_path / "scenes"


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """The cherry of b is not where the picture shows it; c shows nothing."""
    boxes = {"a.png": [("cherry", CHERRY), ("key lime", LIME)], "b.png": [("cherry", LIME)], "c.png": []}
    file = tmp_path / "truth.json"
    file.write_text(coco(boxes, ["cherry", "key lime"]))
    return file


def test_annotated_scenes_are_measured_on_and_not_learnt_from(folder: Path, truth: Path) -> None:
    scenes = choose_scenes(str(folder), truth, 1, TAXONOMY)
    assert [scene.file for scene in scenes.unseen] == ["plain/d.png"]
    records = [record(scene.bag_id, picture(SCENES[scene.file])) for scene in scenes.pictures]
    figures = measure_scenes(scenes, records, HEAD, TAXONOMY, CONFIG)
    assert figures is not None
    assert (figures.images, figures.classes["cherry"].instances, figures.classes["lime"].instances) == (3, 2, 1)
    assert figures.classes["lime"].iou == 1.0
    assert figures.classes["cherry"].ap50 == pytest.approx(0.5, abs=0.01)
    result = TrainingResult(HEAD, HEAD, (), no_bags(3), torch.zeros((2, 2)))
    measured = MeasuredScenes(figures.images, class_rows(figures))
    page = training_report("Fruit", [], result, [], [], measured=measured)
    assert "3 annotated scenes" in page
    assert "<th>lime</th><td>100.0</td>" in page


def test_without_annotations_nothing_is_measured(folder: Path) -> None:
    scenes = choose_scenes(str(folder), None, 1, TAXONOMY)
    assert [scene.file for scene in scenes.unseen] == sorted(SCENES)
    assert measure_scenes(scenes, [], HEAD, TAXONOMY, CONFIG) is None


def test_annotations_of_something_else_are_refused_before_anything_is_described(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plums.json").write_text(coco({"a.png": [("plum", CHERRY)]}, ["plum"]))
    with pytest.raises(ConfigurationError, match="names plum, but none of cherry, lime"):
        choose_scenes(str(folder), tmp_path / "plums.json", 1, TAXONOMY)
    (tmp_path / "far.json").write_text(coco({"z.png": [("cherry", CHERRY)]}, ["cherry"]))
    with pytest.raises(InputError, match=r"annotates no picture of .*scenes"):
        choose_scenes(str(folder), tmp_path / "far.json", 1, TAXONOMY)
