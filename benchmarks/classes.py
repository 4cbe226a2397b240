"""The published figures of U-SAM: accuracy over seeds, with and without distillation, granularity, and speed.

    python benchmarks/classes.py --exemplars DIR --ground-truth DIR/coco_instances/val --json figures.json
    python benchmarks/classes.py --exemplars DIR --ground-truth DIR/voc --split val --features token+crop

Mask embeddings are kept in --work and found again, so that only the first run takes long; so are the figures of every
seed, so that a run that was killed goes on when its command is given again. Accuracy is mIoU (with
background) and mAP50 over those classes of the exemplars that the ground truth knows: COCO instances, or PASCAL VOC.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.class_material import Material, prepare, taxonomy_of, truth_name, with_crops
from benchmarks.class_trials import ENOUGH, TrialConfig, figure_row, over_seeds, train
from data_jobs.runtime.command import parse
from everymask.classes.config import Recipe
from everymask.classes.embeddings import load_embeddings, write_embeddings
from everymask.classes.features import FeatureKind
from everymask.classes.head import ClassHead
from everymask.classes.recipes import PAPER_CLASSES, PAPER_MASKS, PAPER_TRAINING, below
from everymask.classes.segmenter import classify_masks
from everymask.classes.taxonomy import Taxonomy
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.images.decoding import decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images

GRANULARITY = "animals=bird+cat+dog+horse+elephant+giraffe,vehicles=airplane+boat+car+motorcycle,person,chair"
PAPER = {**below("classes", PAPER_CLASSES), **below("classes.masks", PAPER_MASKS), **below("training", PAPER_TRAINING)}
RECIPES = {"recipe": {"paper": PAPER}}


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(TrialConfig):
    """Measure U-SAM."""

    speed_images: int = 20
    """Images for comparing labelling with re-labelling; 0 leaves it out."""
    features: tuple[FeatureKind, ...] = ("token", "token+pooled")
    """What the heads read."""
    granularity: str = GRANULARITY
    """Classes of the changed granularity; empty leaves it out."""
    json: Path | None = None
    """Also write the figures to this file, a row as soon as there is one."""
    recipe: Recipe = "default"
    """paper: labels and training as published. An option given beside it wins."""


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
            rows[f"`{kind}`, {title}"] = figure_row(summary, summary)
            for threshold, by in summary["thresholds"].items():
                rows[f"`{kind}`, {title}, threshold {threshold}"] = figure_row(by, summary)
    return rows


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


def run(config: BenchmarkConfig, tell: Callable[[dict[str, Any]], None] = lambda figures: None) -> dict[str, Any]:
    """All figures; `tell` gets those of the heads so far after each seed."""
    torch.set_num_threads(config.threads)
    if any("crop" in kind for kind in config.features):
        config = replace(config, classes=with_crops(config.classes))
    material = prepare(config, config.classes)
    taxonomy = taxonomy_of(material.exemplars)
    features: dict[str, dict[str, Any]] = {}
    for kind in config.features:
        features[kind] = over_seeds(
            material, taxonomy, config, kind, lambda found, kind=kind: tell({**features, kind: found})
        )
    figures: dict[str, Any] = {"features": features}
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
    weights = weights_of([config.model], config.checkpoint)

    def write(features: dict[str, dict[str, Any]]) -> None:
        if config.json is not None:
            write_figures(config.json, figure_rows(features), weights)

    print(table(run(config, write)))


if __name__ == "__main__":
    main()
