"""The published figures of U-SAM: accuracy over seeds, with and without distillation, granularity, and speed.

    python benchmarks/classes.py --exemplars DIR --ground-truth DIR/coco_instances/val --json figures.json
    python benchmarks/classes.py --exemplars DIR --ground-truth DIR/voc --split val --features token+crop

Mask embeddings are kept in --work and found again, so that only the first run takes long. Accuracy is mIoU (with
background) and mAP50 over those classes of the exemplars that the ground truth knows: COCO instances, or PASCAL VOC.
"""

from __future__ import annotations

import math
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.class_material import (
    Material,
    Measured,
    pasted,
    prepare,
    read_truth,
    taxonomy_of,
    truth_name,
    with_crops,
)
from data_jobs.runtime.command import parse
from everymask.classes.config import ClassesConfig, Recipe
from everymask.classes.embeddings import StoredEmbeddings, load_embeddings, write_embeddings
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead
from everymask.classes.recipes import PAPER_CLASSES, PAPER_MASKS, PAPER_TRAINING, below
from everymask.classes.segmenter import classify_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.classes.training.bags import make_bags
from everymask.classes.training.corrections import NamedMasks
from everymask.classes.training.train import TrainingConfig, head_spec, train_head
from everymask.evaluation.doubt import DoubtFigures, doubt_figures
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.evaluation.ground_truth import ClassTruth
from everymask.evaluation.semantic import ClassMatches, SemanticFigures, semantic_figures
from everymask.images.decoding import decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images

GRANULARITY = "animals=bird+cat+dog+horse+elephant+giraffe,vehicles=airplane+boat+car+motorcycle,person,chair"
ENOUGH = 10
"""Fewest objects of a class for figures of its own."""
PAPER = {**below("classes", PAPER_CLASSES), **below("classes.masks", PAPER_MASKS), **below("training", PAPER_TRAINING)}
RECIPES = {"recipe": {"paper": PAPER}}


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(Measured):
    """Measure U-SAM."""

    speed_images: int = 20
    """Images for comparing labelling with re-labelling; 0 leaves it out."""
    features: tuple[FeatureKind, ...] = ("token", "token+pooled")
    """What the heads read."""
    thresholds: tuple[float, ...] = ()
    """Also label with these thresholds, besides the heads' own."""
    granularity: str = GRANULARITY
    """Classes of the changed granularity; empty leaves it out."""
    json: Path | None = None
    """Also write the figures to this file."""
    recipe: Recipe = "default"
    """paper: labels and training as published. An option given beside it wins."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


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


def train(
    material: Material, taxonomy: Taxonomy, config: TrainingConfig, composites: NamedMasks | None = None
) -> tuple[ClassHead, ClassHead, float, int]:
    """Student, teacher, seconds from stored bags to the student, and epochs of both."""
    started = time.perf_counter()
    subjects = {item.bag_id: item.origin.subject for item in material.exemplars}
    bags = make_bags(material.bags, subjects, taxonomy, config.features)
    spec = head_spec(taxonomy.classes, material.backbone, config)
    result = train_head(bags, spec, config, corrections=composites)
    return result.head, result.teacher, time.perf_counter() - started, len(result.history)


@dataclass(frozen=True)
class Trial:
    """A head compared with the annotated images.

    Attributes:
        labelled: figures by threshold; None is the head's own.
        every_mask: figures without a threshold.
        doubt: how well its doubts predict errors.
    """

    labelled: dict[float | None, SemanticFigures]
    every_mask: SemanticFigures
    doubt: DoubtFigures


def try_head(
    head: ClassHead,
    material: Material,
    truth: dict[str, ClassTruth],
    classes: Sequence[str],
    config: BenchmarkConfig,
) -> Trial:
    """Label the images with a head by its own threshold, by `config.thresholds`, and by none."""

    def by(threshold: float | None) -> SemanticFigures:
        settings = config.classes if threshold is None else replace(config.classes, score_thresh=threshold)
        return measure(head, material.images, truth, classes, settings)

    masks = {name: record.embeddings for name, record in material.images.items()}
    no_threshold = replace(config.classes, score_thresh=0.0, class_score_thresh={})
    return Trial(
        {threshold: by(threshold) for threshold in (None, *config.thresholds)},
        measure(head, material.images, truth, classes, no_threshold),
        doubt_figures(head, masks, truth, classes),
    )


def over_seeds(
    material: Material, taxonomy: Taxonomy, config: BenchmarkConfig, features: FeatureKind
) -> dict[str, Any]:
    """Figures over the seeds of MIL alone, MIL with distillation, and both with composites."""
    truth, measured, _ = read_truth(config.ground_truth, config.split, taxonomy)
    trials: dict[str, list[Trial]] = {}
    seconds: list[float] = []
    composites: NamedMasks | None = None
    for seed in range(config.seeds):
        training = replace(config.training, seed=seed, features=features, distillation=True)
        student, teacher, elapsed, epochs = train(material, taxonomy, training)
        heads = {"mil": teacher, "distilled": student}
        if config.scenes is not None:
            if composites is None:
                composites = pasted(material, taxonomy, student, config, config.classes)
            heads["composites"], _, elapsed, epochs = train(material, taxonomy, training, composites)
        seconds.append(elapsed)
        for name, head in heads.items():
            trial = try_head(head, material, truth, measured, config)
            trials.setdefault(name, []).append(trial)
            figures = trial.labelled[None]
            print(
                f"{features:>12} seed {seed} {name:>10}: mIoU {figures.miou:.2%}, mAP50 {figures.map50:.2%}, without "
                f"a threshold {trial.every_mask.map50:.2%} (last head: {elapsed:.0f} s, {epochs} epochs)",
                flush=True,
            )
    return {"training_seconds": seconds, **{name: _summary(each) for name, each in trials.items()}}


def _summary(trials: Sequence[Trial]) -> dict[str, Any]:
    return {
        **_by_threshold(trials, None),
        "thresholds": {f"{value:g}": _by_threshold(trials, value) for value in trials[0].labelled if value is not None},
        "wrong_name_auroc": _mean([trial.doubt.wrong_name for trial in trials]),
        "missed_object_auroc": _mean([trial.doubt.missed_object for trial in trials]),
    }


def _by_threshold(trials: Sequence[Trial], threshold: float | None) -> dict[str, Any]:
    labelled = [trial.labelled[threshold] for trial in trials]
    every_mask = [trial.every_mask for trial in trials]
    names = list(labelled[0].classes)
    return {
        "miou": _spread([item.miou for item in labelled]),
        "map50": _spread([item.map50 for item in labelled]),
        "map50_all": _spread([item.map50 for item in every_mask]),
        "frequent": {
            "miou": _spread([frequent_mean(item, "iou") for item in labelled]),
            "map50_all": _spread([frequent_mean(item, "ap50") for item in every_mask]),
        },
        "iou": {name: _mean([item.classes[name].iou for item in labelled]) for name in names},
        "ap50": {name: _mean([item.classes[name].ap50 for item in labelled]) for name in names},
        "ap50_all": {name: _mean([item.classes[name].ap50 for item in every_mask]) for name in names},
        "instances": {name: labelled[0].classes[name].instances for name in names},
    }


def frequent_mean(figures: SemanticFigures, measure: Literal["iou", "ap50"]) -> float:
    """Mean over the classes with enough objects, of IoU with background; NaN where there are none."""
    rows = [row for name, row in figures.classes.items() if row.instances >= ENOUGH or name == "background"]
    values: list[float] = [value for row in rows if (value := getattr(row, measure)) is not None]
    return statistics.mean(values) if values else math.nan


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "deviation": deviation, "values": list(values)}


def _mean(values: Sequence[float | None]) -> float | None:
    shown = [value for value in values if value is not None]
    return statistics.mean(shown) if shown else None


ROWS = {"mil": "MIL only", "distilled": "distilled", "composites": "distilled, composites"}
"""Names of a table's rows."""


def figure_rows(features: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """A row for every kind of head and threshold: percent, mean and deviation over the seeds."""
    rows = {}
    for kind, found in features.items():
        for name, title in ROWS.items():
            if name not in found:
                continue
            summary = found[name]
            rows[f"`{kind}`, {title}"] = _row(summary, summary)
            for threshold, by in summary["thresholds"].items():
                rows[f"`{kind}`, {title}, threshold {threshold}"] = _row(by, summary)
    return rows


def _row(figures: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    aurocs = {name: summary[f"{name}_auroc"] for name in ("wrong_name", "missed_object")}
    ious = {f"IoU:{name}": percent(value) for name, value in figures["iou"].items()}
    precisions = {f"AP50:{name}": percent(value) for name, value in figures["ap50_all"].items()}
    return {
        "mIoU": _plus_minus(figures["miou"]),
        "mAP50": _plus_minus(figures["map50"]),
        "mAP50-all": _plus_minus(figures["map50_all"]),
        "mIoU-10": _plus_minus(figures["frequent"]["miou"]),
        "mAP50-all-10": _plus_minus(figures["frequent"]["map50_all"]),
        **{name.replace("_", "-"): "-" if value is None else round(value, 3) for name, value in aurocs.items()},
        **ious,
        **precisions,
        "seeds": {name: figures[name]["values"] for name in ("miou", "map50", "map50_all")},
    }


def with_intervals(matches: ClassMatches, samples: int) -> dict[str, str]:
    """mIoU and mAP50 in percent, with the 95 % interval of `samples` sets of the same images, drawn anew."""
    figures = matches.figures()
    drawn = matches.bootstrap(samples)

    def shown(value: float, column: int) -> str:
        ordered = sorted(drawn[:, column])
        low, high = (ordered[round(share * (samples - 1))] for share in (0.025, 0.975))
        return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"

    return {"mIoU": shown(figures.miou, 0), "mAP50": shown(figures.map50, 2)}


def percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def _plus_minus(spread: dict[str, Any]) -> str:
    return f"{100 * spread['mean']:.1f} ± {100 * spread['deviation']:.1f}"


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
    material = prepare(config, config.classes)
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
    if config.speed_images:
        head = train(material, taxonomy, config.training)[0]
        figures["relabelling"] = relabelling(material, head, config)
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures as lines of text."""
    rows = {**figures["features"], **({"granularity": figures["granularity"]} if "granularity" in figures else {})}
    lines = []
    for name, row in figure_rows(rows).items():
        lines.append(
            f"{name.replace('`', '')}: mIoU {row['mIoU']} %, mAP50 {row['mAP50']} %, without a threshold "
            f"{row['mAP50-all']} %"
        )
        lines.append(
            f"  classes with at least {ENOUGH} objects: mIoU {row['mIoU-10']} %, mAP50 without a threshold "
            f"{row['mAP50-all-10']} %"
        )
        lines.append(f"  AUROC of doubt: wrong name {row['wrong-name']}, missed object {row['missed-object']}")
    for name, row in rows.items():
        best = row["composites" if "composites" in row else "distilled"]
        lines.append(f"{name}, training: {statistics.mean(row['training_seconds']):.1f} s; by class:")
        for shown, iou in best["iou"].items():
            ap50 = best["ap50_all"][shown]
            found = "" if ap50 is None else f", AP50 without a threshold {ap50:.1%} of {best['instances'][shown]}"
            lines.append(f"  {shown}: " + ("not shown" if iou is None else f"IoU {iou:.1%}{found}"))
    if "relabelling" in figures:
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
        write_figures(config.json, figure_rows(figures["features"]), weights_of([config.model]))


if __name__ == "__main__":
    main()
