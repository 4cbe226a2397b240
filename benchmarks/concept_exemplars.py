"""What a stand-in for SAM 3 teaches a small head, beside annotations: figures of the method, not of SAM 3.

    python benchmarks/concept_exemplars.py DATA/coco_instances --json benchmarks/results/concept-exemplars.json

Exemplars are cut out of the pictures of train/, by annotated boxes and where the stand-in is sure. A head on nano
learns from each, and all are measured on val/; so is the stand-in itself, with its overlaps kept and settled.
mAP50 is that of labels as they are written, by their thresholds. In brackets: the 95 % interval, the images drawn anew
with replacement.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.class_trials import with_intervals
from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.config import ClassesConfig, ConceptsConfig
from everymask.classes.exemplars.boxes import cut_out
from everymask.classes.exemplars.concepts import SURE, concept_pictures
from everymask.classes.head import ClassHead
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.pictures import train_on_pictures
from everymask.classes.training.train import TrainingConfig
from everymask.evaluation.figure_files import write_figures
from everymask.evaluation.ground_truth import ClassTruth, read_coco_instances
from everymask.evaluation.semantic import match_classes
from everymask.images.decoding import ImageLimits, decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.masks.rle import boxes_from_rles
from everymask.records import ImageLabels
from everymask.research.oracle.concepts import CONCEPTS_WITH_ERRORS, NamedScene, OracleConcepts

Pictures = dict[str, NDArray[np.uint8]]
Exemplars = dict[str, list[NDArray[np.uint8]]]
Label = Callable[[NDArray[np.uint8]], ImageLabels]
CLASSES = Taxonomy.parse("person,chair,car,cup")
"""Those with the most objects in both halves of the data."""
MOST, LEAST_SIDE_PX, MARGIN = 60, 40, 0.15
BOOTSTRAP = 300


def read(folder: Path) -> tuple[Pictures, dict[str, ClassTruth]]:
    """The pictures that show something of the classes, and what they show."""
    truth = {name: one for name, one in read_coco_instances(folder, CLASSES).items() if one.instances}
    return {name: decode_image(next((folder / "images").glob(f"{name}*")).read_bytes()) for name in truth}, truth


def scenes(pictures: Pictures, truth: dict[str, ClassTruth], classes: tuple[str, ...]) -> list[NamedScene]:
    """What the stand-in knows."""
    return [
        NamedScene(image, tuple((classes[one.class_id], one.rle) for one in truth[name].instances))
        for name, image in pictures.items()
    ]


def gathered(found: Iterable[tuple[str, bytes]], classes: tuple[str, ...]) -> Exemplars:
    """At most `MOST` exemplars of each class that are not too small."""
    exemplars: Exemplars = {name: [] for name in classes}
    for name, data in found:
        image = decode_image(data)
        if len(exemplars[name]) < MOST and min(image.shape[:2]) >= LEAST_SIDE_PX:
            exemplars[name].append(image)
    return exemplars


def row(exemplars: str, label: Label, pictures: Pictures, truth: dict[str, ClassTruth]) -> dict[str, str | int]:
    """One row of the table."""
    matches = match_classes({name: label(image) for name, image in pictures.items()}, truth, CLASSES.classes)
    objects = sum(not one.iscrowd for image in truth.values() for one in image.instances)
    return {
        "exemplars": exemplars,
        "images": len(pictures),
        "objects": objects,
        **with_intervals(matches, BOOTSTRAP),
    }


def labeller(backbone: PromptableBackbone, config: LabelConfig, head: ClassHead | None = None) -> Label:
    """Labels one picture."""

    def label(image: NDArray[np.uint8]) -> ImageLabels:
        (labels,) = label_images(backbone, [image], config, head)
        assert isinstance(labels, ImageLabels)
        return labels

    return label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    data: Path = given.data
    classes = CLASSES.classes
    pictures, truth = read(data / "train")
    annotated = gathered(
        (
            (classes[one.class_id], cut_out(pictures[name], tuple(boxes_from_rles([one.rle])[0].tolist()), MARGIN)[1])
            for name in pictures
            for one in truth[name].instances
            if not one.iscrowd
        ),
        classes,
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, image in pictures.items():
            Image.fromarray(image).save(Path(folder, f"{name}.png"))
        stand_in = OracleConcepts(scenes(pictures, truth, classes), CONCEPTS_WITH_ERRORS)
        found = concept_pictures(stand_in, folder, CLASSES, ConceptsConfig(score_thresh=SURE), MARGIN, ImageLimits())
        taught = gathered(((origin.subject, data) for origin, data in found), classes)
    pictures, truth = read(data / "val")
    figures: dict[str, dict[str, str | int]] = {}
    stand_in = OracleConcepts(scenes(pictures, truth, classes), CONCEPTS_WITH_ERRORS)
    for overlaps in ("keep", "settle"):
        asked = LabelConfig("concepts", concepts=ConceptsConfig(classes, overlaps=overlaps))
        figures[f"the stand-in, overlaps {overlaps}"] = row("-", labeller(stand_in, asked), pictures, truth)
    nano = load_backbone("nano")
    config = LabelConfig("classes", classes=ClassesConfig())
    as_many = {name: annotated[name][: len(taught[name])] for name in classes}
    teachers = {"annotated boxes": annotated, "as many of them as the stand-in finds": as_many, "the stand-in": taught}
    for name, exemplars in teachers.items():
        head = train_on_pictures(exemplars, nano, TrainingConfig(), config.classes.masks).head
        counts = " + ".join(str(len(exemplars[one])) for one in classes)
        figures[f"head on nano, taught by {name}"] = row(counts, labeller(nano, config, head), pictures, truth)
    for name, figure in figures.items():
        print(name, figure)
    if given.json is not None:
        write_figures(given.json, figures, {"nano": nano.weights_sha256})


if __name__ == "__main__":
    main()
