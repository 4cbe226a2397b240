"""A simulated round of review: does the queue's order help, and what do 50 corrected images gain?

    python benchmarks/review_round.py --exemplars DIR --data COCO_INSTANCES

COCO_INSTANCES has train/ and val/. A head learns from exemplars and labels the images of train/. A test user corrects
the images of the review queue by their ground truth, a second one as many images drawn at random. Heads that learn from
these corrections, too, are measured beside the first one on val/. A hit is an image in the worst third by its own mIoU.
Of every figure the mean and deviation over the seeds are shown, and of what corrections gain also the 95 % interval of
the mean gain, the measured images drawn anew with replacement.
Mask embeddings and every seed's figures are kept in --work: given again, a command that was killed goes on.
"""

from __future__ import annotations

import hashlib
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import tyro

from benchmarks.class_material import (
    Material,
    Measured,
    embedded,
    prepare,
    taxonomy_of,
    truth_name,
    with_crops,
)
from benchmarks.kept_figures import kept_figures
from everymask.classes.config import ClassesConfig
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead
from everymask.classes.segmenter import classify_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.bags import Bags, make_bags
from everymask.classes.training.corrections import (
    CorrectedImage,
    NamedMasks,
    corrected_images,
    correction_class_ids,
    named_masks,
)
from everymask.classes.training.train import TrainingConfig, head_spec, train_head
from everymask.errors import InputError
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.evaluation.ground_truth import ClassTruth, read_coco_instances
from everymask.evaluation.semantic import match_classes, semantic_figures
from everymask.files.addresses import AddressPolicy
from everymask.labels.corrections import write_corrections
from everymask.labels.mask_ids import with_mask_ids
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from everymask.review.matching import correct_image
from everymask.review.queue import make_queue
from everymask.review.reviewed import ReviewedImage, ReviewedMask


@dataclass(frozen=True)
class RoundConfig:
    """Simulate a round of review."""

    exemplars: Path
    """Folder of exemplars, a directory per COCO class."""
    data: Path
    """Folder with train/ and val/, each with instances.json and images/."""
    work: Path = Path("runs/benchmark-classes")
    """Where mask embeddings are kept."""
    model: str = "nano"
    """Backbone."""
    per_class: int | None = None
    """Only the first so many exemplars of each class."""
    corrected: int = 50
    """Images that are corrected."""
    seeds: int = 3
    """Rounds, each with its own heads and its own images drawn at random."""
    measure_on: Literal["val", "half"] = "val"
    """Images that heads are measured on: val/, or one half of train/, drawn anew each round, with the other reviewed:
    what settings are chosen by. (The images that a queue leaves are no measure: it has taken the hard ones.)"""
    features: FeatureKind = "token+pooled+crop"
    """What the heads read."""
    threads: int = 2
    """torch threads."""
    bootstrap: int = 300
    """Sets of images drawn for the intervals."""
    json: Path | None = None
    """Also write the figures to this file, anew after each seed."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True)
class Truths:
    """Ground truth by image file name."""

    train: dict[str, ClassTruth]
    measured: dict[str, ClassTruth]


def image_miou(labels: ImageLabels, truth: ClassTruth, classes: Sequence[str]) -> float:
    """mIoU of one image, background included; without a class in it, 1 if nothing is found, else 0."""
    try:
        return semantic_figures({"image": labels}, {"image": truth}, classes).miou
    except InputError:
        return 1.0 if not labels.masks else 0.0


def finished(name: str, truth: ClassTruth, classes: Sequence[str]) -> ReviewedImage:
    """An image as the test user corrects it: its objects, and nothing else."""
    masks = tuple(ReviewedMask(item.rle, classes[item.class_id], None) for item in truth.instances if not item.iscrowd)
    return ReviewedImage(name, name, truth.size_hw, masks)


def learn(
    names: Sequence[str],
    labels: dict[str, ImageLabels],
    truths: Truths,
    material: Material,
    spec_classes: Taxonomy,
    config: RoundConfig,
) -> NamedMasks:
    """A head's training masks from these images after the test user has corrected them."""
    classes = spec_classes.classes
    ids = {name: class_id for class_id, name in enumerate(classes)}
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore(f"{folder}/labels")
        pictures = config.data / "train" / "images"
        store.write_part(
            to_table(
                ImageRow(
                    name,
                    str(pictures / name),
                    with_mask_ids(labels[name], name, "round"),
                    content_sha256=hashlib.sha256((pictures / name).read_bytes()).hexdigest(),
                )
                for name in names
            )
        )
        corrections = [
            correct_image(
                finished(row.image_id, truths.train[row.image_id], classes), row, row.labels, None, ids, "coco", ""
            )
            for row in store.images()
            if row.labels is not None
        ]
        write_corrections(store, corrections)
        images: list[CorrectedImage] = corrected_images(store)
    class_ids = correction_class_ids(images, spec_classes, every_class=False)
    directory = str(_stored(material, config, "train"))
    return named_masks(
        images,
        class_ids,
        len(classes),
        material.backbone,
        config.classes.masks,
        config.features,
        directory,
        print,
        AddressPolicy((str(pictures),)),
    )


def _stored(material: Material, config: RoundConfig, part: str) -> Path:
    """Where the mask embeddings of train/ or val/ are kept."""
    model = f"{material.backbone.name}-{material.backbone.weights_sha256[:12]}"
    return config.work / model / truth_name(config.data / part, part)


def one_round(
    seed: int, material: Material, bags: Bags, truths: Truths, taxonomy: Taxonomy, config: RoundConfig
) -> dict[str, list[float]]:
    """The queue's hits, and mIoU and mAP50 before and after, for one seed, with those of the drawn sets behind each."""
    training = replace(config.training, seed=seed, features=config.features)
    spec = head_spec(taxonomy.classes, material.backbone, training)

    def head_of(corrections: NamedMasks | None) -> ClassHead:
        return train_head(bags, spec, training, corrections=corrections).head

    before = head_of(None)
    reviewed, measured = sorted(truths.train), truths.measured
    if config.measure_on == "half":
        random.Random(seed).shuffle(reviewed)
        half = len(reviewed) // 2
        reviewed, measured = sorted(reviewed[:half]), {name: truths.measured[name] for name in reviewed[half:]}
    labels = {name: classify_masks(material.images[name].embeddings, before, config.classes) for name in reviewed}
    quality = {name: image_miou(labels[name], truths.train[name], taxonomy.classes) for name in labels}
    third = sorted(quality, key=lambda name: (quality[name], name))[: len(quality) // 3]
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore(f"{folder}/labels")
        store.write_part(to_table(ImageRow(name, name, labels[name]) for name in sorted(labels)))
        queue = make_queue(store, config.corrected, control=0.0, seed=seed).image_ids
        control = make_queue(store, config.corrected, control=1.0, seed=seed).image_ids
    figures: dict[str, list[float]] = {
        "hits_queue": [sum(name in set(third) for name in queue) / len(queue)],
        "hits_control": [sum(name in set(third) for name in control) / len(control)],
    }
    images = {name: material.images[name].embeddings for name in measured}
    for kind, names in (("before", None), ("queue", queue), ("control", control)):
        head = before if names is None else head_of(learn(names, labels, truths, material, taxonomy, config))
        for column, settings in (("", config.classes), ("_all", replace(config.classes, score_thresh=0.0))):
            found = {name: classify_masks(masks, head, settings) for name, masks in images.items()}
            matches = match_classes(found, measured, taxonomy.classes)
            whole, drawn = matches.figures(), matches.bootstrap(config.bootstrap)
            figures[f"map50{column}_{kind}"] = [whole.map50, *drawn[:, 2].tolist()]
            if not column:
                figures[f"miou_{kind}"] = [whole.miou, *drawn[:, 0].tolist()]
    return figures


def run(
    config: RoundConfig, tell: Callable[[dict[str, dict[str, str]]], None] = lambda rows: None
) -> dict[str, dict[str, str]]:
    """The table of all rounds; `tell` gets that of the rounds so far."""
    torch.set_num_threads(config.threads)
    if "crop" in config.features:
        config = replace(config, classes=with_crops(config.classes))
    material = prepare(
        Measured(
            exemplars=config.exemplars,
            ground_truth=config.data / "train",
            work=config.work,
            model=config.model,
            per_class=config.per_class,
        ),
        config.classes,
    )
    taxonomy = taxonomy_of(material.exemplars)
    train_truth = read_coco_instances(config.data / "train", taxonomy)
    measured = train_truth
    if config.measure_on == "val":
        measured = read_coco_instances(config.data / "val", taxonomy)
        paths = ((name, config.data / "val" / "images" / name) for name in measured)
        material.images.update(embedded(material.backbone, paths, _stored(material, config, "val"), config.classes))
    subjects = {item.bag_id: item.origin.subject for item in material.exemplars}
    bags = make_bags(material.bags, subjects, taxonomy, config.features)
    rounds: list[dict[str, list[float]]] = []
    for seed in range(config.seeds):
        of: dict[str, Any] = {
            "config": {**asdict(config), "json": None, "seeds": None, "threads": None, "work": None},
            "weights": material.backbone.weights_sha256,
            "seed": seed,
        }
        one = partial(one_round, seed, material, bags, Truths(train_truth, measured), taxonomy, config)
        rounds.append(kept_figures(config.work / "figures", of, one))
        print(json.dumps({"seed": seed} | {name: round(each[0], 4) for name, each in rounds[-1].items()}), flush=True)
        tell(table(rounds))
    return table(rounds)


SHOWN = {
    "hits": "hits",
    "miou": "mIoU",
    "map50": "mAP50",
    "map50_all": "mAP50 without a threshold",
}
"""Names of a table's rows."""


def table(rounds: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, dict[str, str]]:
    """Rows in percent, from `one_round`'s figures."""

    def cell(name: str) -> str:
        values = [100 * each[name][0] for each in rounds]
        deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{deviation}"

    def gain(name: str, kind: str) -> str:
        gains = np.mean([np.subtract(each[f"{name}_{kind}"], each[f"{name}_before"]) for each in rounds], axis=0)
        low, high = np.quantile(gains[1:], [0.025, 0.975])
        return f"{100 * gains[0]:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"

    return {
        title: {"queue": cell(f"{name}_queue"), "random": cell(f"{name}_control")}
        | (
            {"before": "-", "queue-gain": "-", "random-gain": "-"}
            if name == "hits"
            else {
                "before": cell(f"{name}_before"),
                "queue-gain": gain(name, "queue"),
                "random-gain": gain(name, "control"),
            }
        )
        for name, title in SHOWN.items()
    }


def main() -> None:
    config = tyro.cli(RoundConfig, description=__doc__)
    weights = weights_of([config.model])

    def write(rows: dict[str, dict[str, str]]) -> None:
        if config.json is not None:
            write_figures(config.json, rows, weights)

    for name, row in run(config, write).items():
        print(f"{name}: " + ", ".join(f"{column} {value}" for column, value in row.items()))


if __name__ == "__main__":
    main()
