"""What a stand-in for SAM 3 teaches a small head, beside annotations: figures of the method, not of SAM 3.

    python benchmarks/concept_exemplars.py DATA/coco_instances

Exemplars are cut out of the pictures of train/, by annotated boxes and where the stand-in is sure. A head on nano
learns from each, and both are measured on val/; so is the stand-in itself, with its overlaps kept and settled.
AP50 is that of labels as they are written, by their thresholds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.config import ClassesConfig, ConceptsConfig
from everymask.classes.exemplars.boxes import cut_out
from everymask.classes.exemplars.concepts import SURE, concept_pictures
from everymask.classes.head import ClassHead
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.pictures import train_on_pictures
from everymask.classes.training.train import TrainingConfig
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


def row(name: str, exemplars: str, label: Label, pictures: Pictures, truth: dict[str, ClassTruth]) -> None:
    """Print one row of the table."""
    classes = CLASSES.classes
    found = match_classes({name: label(image) for name, image in pictures.items()}, truth, classes).figures()
    print(f"| {name} | {exemplars} | {found.miou:.3f} | {found.map50:.3f} |", flush=True)


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
    data = parser.parse_args().data
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
    print(f"{len(pictures)} pictures of val/ with {sum(len(one.instances) for one in truth.values())} objects\n")
    print("| | exemplars | mIoU | AP50 |\n| --- | --- | --- | --- |")
    stand_in = OracleConcepts(scenes(pictures, truth, classes), CONCEPTS_WITH_ERRORS)
    for overlaps in ("keep", "settle"):
        asked = LabelConfig("concepts", concepts=ConceptsConfig(classes, overlaps=overlaps))
        row(f"stand-in, overlaps {overlaps}", "-", labeller(stand_in, asked), pictures, truth)
    nano = load_backbone("nano")
    config = LabelConfig("classes", classes=ClassesConfig())
    for name, exemplars in (("annotated boxes", annotated), ("the stand-in", taught)):
        head = train_on_pictures(exemplars, nano, TrainingConfig(), config.classes.masks).head
        counts = " + ".join(str(len(exemplars[one])) for one in classes)
        row(f"head, taught by {name}", counts, labeller(nano, config, head), pictures, truth)


if __name__ == "__main__":
    main()
