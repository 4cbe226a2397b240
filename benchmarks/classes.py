"""The published figures of U-SAM: accuracy over seeds, with and without distillation, granularity, and speed.

    python benchmarks/classes.py --exemplars DIR --ground-truth DIR/coco_instances/val --json figures.json
    python benchmarks/classes.py --exemplars DIR --ground-truth DIR/voc --split val --features token+crop

Mask embeddings are kept in --work and found again, so that only the first run takes long. Accuracy is mIoU (with
background) and mAP50 over those classes of the exemplars that the ground truth knows: COCO instances, or PASCAL VOC.
"""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.doubt import doubt_correlation, labelled_doubt_correlation
from data_jobs.runtime.command import parse
from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.config import ClassesConfig, Recipe
from everymask.classes.embeddings import StoredEmbeddings, load_embeddings, open_embeddings, write_embeddings
from everymask.classes.exemplars.manifest import Exemplar, load_exemplars
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead
from everymask.classes.recipes import PAPER_CLASSES, PAPER_MASKS, PAPER_TRAINING, below
from everymask.classes.segmenter import classify_masks, describe_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.bags import make_bags
from everymask.classes.training.train import TrainingConfig, head_spec, train_head
from everymask.errors import ConfigurationError
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.evaluation.ground_truth import ClassTruth, read_coco_instances, read_voc
from everymask.evaluation.ground_truth.voc import VOC_CLASSES
from everymask.evaluation.semantic import SemanticFigures, semantic_figures
from everymask.images.decoding import decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images

GRANULARITY = "animals=bird+cat+dog+horse+elephant+giraffe,vehicles=airplane+boat+car+motorcycle,person,chair"
SHARD = 25
PAPER = {**below("classes", PAPER_CLASSES), **below("classes.masks", PAPER_MASKS), **below("training", PAPER_TRAINING)}
RECIPES = {"recipe": {"paper": PAPER}}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured, with what."""

    exemplars: Path
    """Folder of exemplars, a directory per COCO class."""
    ground_truth: Path
    """Folder with instances.json and images/, or in VOC's layout."""
    split: str = "val"
    """Which list in VOC's ImageSets/Segmentation."""
    work: Path = Path("runs/benchmark-classes")
    """Where mask embeddings are kept."""
    model: str = "nano"
    """Backbone."""
    checkpoint: str | None = None
    """Other weights for it."""
    seeds: int = 5
    """Trainings, each with its own split, initial weights and order."""
    per_class: int | None = None
    """Only the first so many exemplars of each class."""
    threads: int = 2
    """torch threads."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(Measured):
    """Measure U-SAM."""

    speed_images: int = 20
    """Images of the comparison of labelling with re-labelling."""
    features: tuple[FeatureKind, ...] = ("token", "token+pooled")
    """What the heads read."""
    granularity: str = GRANULARITY
    """Classes of the changed granularity; empty leaves it out."""
    json: Path | None = None
    """Also write the figures to this file."""
    recipe: Recipe = "default"
    """paper: labels and training as published. An option given beside it wins."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


def with_crops(config: ClassesConfig) -> ClassesConfig:
    """Masks are described by their crops, too, as a head that reads crops wants them."""
    return replace(config, masks=replace(config.masks, describer="crop"))


def embedded(
    backbone: PromptableBackbone, images: Iterable[tuple[str, Path]], store: Path, config: ClassesConfig
) -> dict[str, StoredEmbeddings]:
    """Mask embeddings of images by id, made where the store has none.

    Raises:
        ConfigurationError: the store was made with other settings of masks.
    """
    images = list(images)
    known: dict[str, StoredEmbeddings] = {}
    if any(store.glob("*.parquet")):
        if open_embeddings(store)[1] != config.masks:
            raise ConfigurationError(f"{store} holds masks made with other settings; give another --work")
        known = {record.image_id: record for record in load_embeddings(store)}
    missing = [(image_id, path) for image_id, path in images if image_id not in known]
    for first in range(0, len(missing), SHARD):
        records = [_describe(backbone, image_id, path, config) for image_id, path in missing[first : first + SHARD]]
        write_embeddings(store, records, config.masks)
        known |= {record.image_id: record for record in records}
        print(f"embedded {min(first + SHARD, len(missing))} of {len(missing)} images into {store}", flush=True)
    return {image_id: known[image_id] for image_id, _ in images}


def _describe(backbone: PromptableBackbone, image_id: str, path: Path, config: ClassesConfig) -> StoredEmbeddings:
    (embedding,) = embed_images(backbone, [decode_image(path.read_bytes())], keep_picture=True)
    assert isinstance(embedding, ImageEmbedding)
    return StoredEmbeddings(image_id, str(path), "", describe_masks(backbone, embedding, config))


def measure(
    head: ClassHead,
    images: dict[str, StoredEmbeddings],
    truth: dict[str, ClassTruth],
    classes: Sequence[str],
    config: ClassesConfig,
) -> SemanticFigures:
    """Label stored images with a head and compare with the ground truth of some classes."""
    labels = {name: classify_masks(record.embeddings, head, config) for name, record in images.items()}
    return semantic_figures(labels, truth, classes)


@dataclass(frozen=True)
class Material:
    """What all measurements share."""

    backbone: PromptableBackbone
    exemplars: list[Exemplar]
    bags: list[StoredEmbeddings]
    images: dict[str, StoredEmbeddings]


VOC_NAMES = {"airplane": "aeroplane", "motorcycle": "motorbike", "couch": "sofa", "tv": "tvmonitor"}
"""COCO's classes that have another name in VOC."""


def taxonomy_of(exemplars: Sequence[Exemplar]) -> Taxonomy:
    """The classes of some exemplars."""
    return Taxonomy(tuple(dict.fromkeys((item.origin.subject, item.class_name) for item in exemplars)))


def is_voc(folder: Path) -> bool:
    """Whether a folder of ground truth is in VOC's layout."""
    return (folder / "SegmentationClass").is_dir()


def truth_name(folder: Path, split: str) -> str:
    """Names the mask embeddings of a ground truth's images."""
    return "-".join([*folder.resolve().parts[-2:], *([split] if is_voc(folder) else [])])


def read_truth(folder: Path, split: str, taxonomy: Taxonomy) -> tuple[dict[str, ClassTruth], tuple[str, ...], Path]:
    """Ground truth by file name, the classes it is of, and the folder of its images."""
    if not is_voc(folder):
        return read_coco_instances(folder, taxonomy), taxonomy.classes, folder / "images"
    subjects = [(VOC_NAMES.get(subject, subject), name) for subject, name in taxonomy.subjects]
    known = Taxonomy(tuple((subject, name) for subject, name in subjects if subject in VOC_CLASSES))
    return read_voc(folder, known, split), known.classes, folder / "JPEGImages"


def prepare(config: BenchmarkConfig) -> Material:
    """Embed exemplars and images, or find them embedded."""
    backbone = load_backbone(config.model, config.checkpoint, "cpu")
    store = config.work / f"{backbone.name}-{backbone.weights_sha256[:12]}"
    exemplars: list[Exemplar] = []
    taken: dict[str, int] = {}
    for item in load_exemplars(config.exemplars):
        taken[item.origin.subject] = taken.get(item.origin.subject, 0) + 1
        if config.per_class is None or taken[item.origin.subject] <= config.per_class:
            exemplars.append(item)
    bags = embedded(
        backbone, ((item.bag_id, config.exemplars / item.file) for item in exemplars), store / "bags", config.classes
    )
    truth, _, folder = read_truth(config.ground_truth, config.split, taxonomy_of(exemplars))
    truth_store = store / truth_name(config.ground_truth, config.split)
    images = embedded(backbone, ((name, folder / name) for name in sorted(truth)), truth_store, config.classes)
    return Material(backbone, exemplars, list(bags.values()), images)


def train(material: Material, taxonomy: Taxonomy, config: TrainingConfig) -> tuple[ClassHead, ClassHead, float, int]:
    """Student, teacher, seconds from stored bags to the student, and epochs of both."""
    started = time.perf_counter()
    subjects = {item.bag_id: item.origin.subject for item in material.exemplars}
    bags = make_bags(material.bags, subjects, taxonomy, config.features)
    spec = head_spec(taxonomy.classes, material.backbone, config)
    result = train_head(bags, spec, config)
    return result.head, result.teacher, time.perf_counter() - started, len(result.history)


def over_seeds(
    material: Material, taxonomy: Taxonomy, config: BenchmarkConfig, features: FeatureKind
) -> dict[str, Any]:
    """Figures of MIL alone and of MIL with distillation for every seed, with mean and standard deviation."""
    truth, measured, _ = read_truth(config.ground_truth, config.split, taxonomy)
    rows: dict[str, list[SemanticFigures]] = {"mil": [], "distilled": []}
    seconds: list[float] = []
    correlations: dict[str, list[float | None]] = {
        "uncertainty_correlation": [],
        "labelled_uncertainty_correlation": [],
    }
    for seed in range(config.seeds):
        training = replace(config.training, seed=seed, features=features, distillation=True)
        student, teacher, elapsed, epochs = train(material, taxonomy, training)
        seconds.append(elapsed)
        correlations["uncertainty_correlation"].append(doubt_correlation(student, material.images, truth, measured))
        correlations["labelled_uncertainty_correlation"].append(
            labelled_doubt_correlation(student, material.images, truth, measured, config.classes)
        )
        for name, head in (("mil", teacher), ("distilled", student)):
            figures = measure(head, material.images, truth, measured, config.classes)
            rows[name].append(figures)
            print(
                f"{features:>12} seed {seed} {name:>9}: mIoU {figures.miou:.2%}, mAP50 {figures.map50:.2%} "
                f"({elapsed:.0f} s, {epochs} epochs)",
                flush=True,
            )
    return {
        "training_seconds": seconds,
        **{name: _mean(values) for name, values in correlations.items()},
        **{name: _summary(figures) for name, figures in rows.items()},
        "gain": {
            "miou": _spread([b.miou - a.miou for a, b in zip(rows["mil"], rows["distilled"], strict=True)]),
            "map50": _spread([b.map50 - a.map50 for a, b in zip(rows["mil"], rows["distilled"], strict=True)]),
        },
    }


def _summary(figures: Sequence[SemanticFigures]) -> dict[str, Any]:
    names = list(figures[0].classes)
    return {
        "miou": _spread([item.miou for item in figures]),
        "map50": _spread([item.map50 for item in figures]),
        "iou": {name: _mean([item.classes[name].iou for item in figures]) for name in names},
        "ap50": {name: _mean([item.classes[name].ap50 for item in figures]) for name in names},
        "instances": {name: figures[0].classes[name].instances for name in names},
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "deviation": deviation, "values": list(values)}


def _mean(values: Sequence[float | None]) -> float | None:
    shown = [value for value in values if value is not None]
    return statistics.mean(shown) if shown else None


def relabelling(material: Material, head: ClassHead, config: BenchmarkConfig) -> dict[str, float]:
    """Seconds an image for labelling from pixels and from stored embeddings, decoding and reading included."""
    names = list(material.images)[: config.speed_images]

    def from_pixels() -> list[Any]:
        labels = []
        for name in names:
            image = decode_image(Path(material.images[name].uri).read_bytes())
            labels += label_images(material.backbone, [image], LabelConfig("classes", classes=config.classes), head)
        return labels

    store = config.work / "relabelling" / truth_name(config.ground_truth, config.split)
    if not store.exists():
        write_embeddings(store, [material.images[name] for name in names], config.classes.masks)

    def from_store() -> list[Any]:
        stored = {record.image_id: record for record in load_embeddings(store)}
        return [classify_masks(stored[name].embeddings, head, config.classes) for name in names]

    from_store()
    fast, stored_labels = _timed(from_store, repeats=5)
    slow, fresh_labels = _timed(from_pixels, repeats=1)
    if stored_labels != fresh_labels:
        raise RuntimeError("labels from stored and from fresh embeddings differ")
    return {"label_s": slow / len(names), "relabel_s": fast / len(names), "speedup": slow / fast}


def _timed(work: Any, repeats: int) -> tuple[float, Any]:
    seconds, answer = [], None
    for _ in range(repeats):
        started = time.perf_counter()
        answer = work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), answer


def run(config: BenchmarkConfig) -> dict[str, Any]:
    """All figures."""
    torch.set_num_threads(config.threads)
    if any("crop" in kind for kind in config.features):
        config = replace(config, classes=with_crops(config.classes))
    material = prepare(config)
    taxonomy = taxonomy_of(material.exemplars)
    figures: dict[str, Any] = {
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": config.threads},
        "model": material.backbone.name,
        "weights_sha256": material.backbone.weights_sha256,
        "exemplars": len(material.exemplars),
        "images": len(material.images),
        "classes": list(taxonomy.classes),
        "config": {"classes": asdict(config.classes), "training": asdict(config.training)},
        "features": {kind: over_seeds(material, taxonomy, config, kind) for kind in config.features},
    }
    if config.granularity:
        coarse = Taxonomy.parse(config.granularity)
        figures["granularity"] = over_seeds(material, coarse, config, config.training.features)
    head = train(material, taxonomy, config.training)[0]
    figures["relabelling"] = relabelling(material, head, config)
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures as lines of text."""

    def percent(spread: dict[str, Any]) -> str:
        return f"{spread['mean']:7.2%} ± {spread['deviation']:.2%}"

    lines = []
    rows = {**figures["features"], **({"granularity": figures["granularity"]} if "granularity" in figures else {})}
    for kind, row in rows.items():
        for name in ("mil", "distilled", "gain"):
            lines.append(
                f"{kind:>12} {name:>9}: mIoU {percent(row[name]['miou'])}, mAP50 {percent(row[name]['map50'])}"
            )
        lines.append(f"{kind:>12}  training: {statistics.mean(row['training_seconds']):.1f} s")
        for masks, name in (("masks", "uncertainty_correlation"), ("labels", "labelled_uncertainty_correlation")):
            shown = "not known" if row[name] is None else f"r = {row[name]:.2f}"
            lines.append(f"{kind:>12}  uncertainty and being misnamed, over {masks} that match an object: {shown}")
        for name, iou in row["distilled"]["iou"].items():
            ap50 = row["distilled"]["ap50"][name]
            shown = "" if ap50 is None else f", AP50 {ap50:.1%} of {row['distilled']['instances'][name]}"
            lines.append(f"{'':>24}{name}: " + ("not shown" if iou is None else f"IoU {iou:.1%}{shown}"))
    speed = figures["relabelling"]
    lines.append(
        f"labelling {speed['label_s']:.3f} s an image, re-labelling {speed['relabel_s']:.4f} s: "
        f"{speed['speedup']:.0f} times as fast"
    )
    return "\n".join(lines)


def main() -> None:
    config = parse(BenchmarkConfig, sys.argv[1:], "benchmarks/classes.py", RECIPES)
    figures = run(config)
    print(table(figures))
    if config.json is not None:
        write_figures(config.json, figures, weights_of([config.model]))


if __name__ == "__main__":
    main()
