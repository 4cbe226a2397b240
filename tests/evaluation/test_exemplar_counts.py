"""How many exemplars a class needs: which of them, and which images measure it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import voc_boxes
from benchmarks.class_material import Material, read_truth
from benchmarks.class_trials import OWN, Trial, summary
from benchmarks.exemplar_counts import row, with_first
from everymask.classes.embeddings import StoredEmbeddings
from everymask.classes.exemplars.manifest import Exemplar, Origin
from everymask.classes.taxonomy import Taxonomy
from everymask.evaluation.doubt import DoubtFigures
from everymask.evaluation.semantic import ClassFigures, SemanticFigures
from tests.classes.toy import ColourBackbone
from tests.evaluation.squares import described_by


def test_a_class_gives_its_first_exemplars_and_all_where_it_has_fewer() -> None:
    exemplars = [
        Exemplar(f"{subject}/{place}.jpg", subject, f"{place}" * 64, "0" * 16, Origin(subject, "boxes"))
        for place, subject in enumerate(["cat", "dog", "cat", "cat", "dog"])
    ]
    masks = described_by([np.zeros(3)])
    bags = [StoredEmbeddings(item.bag_id, item.file, "", masks) for item in exemplars]
    images = {"a": StoredEmbeddings("a", "a.jpg", "", masks)}
    first = with_first(Material(ColourBackbone(), exemplars, bags, images), 2)
    assert [item.file for item in first.exemplars] == ["cat/0.jpg", "dog/1.jpg", "cat/2.jpg", "dog/4.jpg"]
    assert [bag.uri for bag in first.bags] == [item.file for item in first.exemplars]
    assert first.images == images


def test_a_row_names_its_worst_class() -> None:
    classes = {
        "background": ClassFigures(0.9, None, None, 0),
        "cat": ClassFigures(0.5, 0.4, 0.4, 10),
        "chair": ClassFigures(0.2, 0.02, 0.021, 10),
        "lynx": ClassFigures(None, None, None, 0),
    }
    figures = SemanticFigures(0.5, 0.2, 0.2, classes, 3)
    shown = row(summary([Trial({OWN: figures}, figures, DoubtFigures(0.9, 10, 2, 0.8, 10, 3))]))
    assert (shown["worst"], shown["AP50:cat"], shown["objects:chair"]) == ("chair 2.1", "40.0", 10)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Four images of one aeroplane each, as long as the place of the image."""
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for place, name in enumerate("dbca"):
        pixels = np.zeros((20, 200), dtype=np.uint8)
        pixels[5:15, : 100 + place] = 1
        for folder in ("SegmentationClass", "SegmentationObject"):
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
        Image.fromarray(np.zeros((20, 200, 3), dtype=np.uint8)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("d\nb\nc\na\n")
    return tmp_path


def test_boxes_and_measured_images_are_of_different_halves(voc: Path) -> None:
    taxonomy = Taxonomy((("airplane", "airplane"),))
    assert list(read_truth(voc, "train", taxonomy)[0]) == ["d.jpg", "b.jpg", "c.jpg", "a.jpg"]
    second, classes, _ = read_truth(voc, "train", taxonomy, "second")
    assert (list(second), classes) == (["b.jpg", "d.jpg"], ("airplane",))
    config = voc_boxes.BoxesConfig(voc, ("airplane",), voc / "boxes.json", half="first")
    content = voc_boxes.boxes(config)
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "c.jpg"]
    assert [box["bbox"] for box in content["annotations"]] == [[0, 5, 103, 10], [0, 5, 102, 10]]
    assert len(voc_boxes.boxes(voc_boxes.BoxesConfig(**{**asdict(config), "half": None}))["images"]) == 4
