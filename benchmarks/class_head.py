"""A class head on annotated images: by several thresholds and by none, class by class, and how well its doubts tell.

    python benchmarks/class_head.py --ground-truth DATA/coco_instances/val --json benchmarks/results/everyday-coco.json
    python benchmarks/class_head.py --ground-truth DATA/voc --split val --head pets.safetensors

Mask embeddings are kept in --work and found again, as by benchmarks/classes.py. In brackets: the 95 % interval, the
images drawn anew with replacement.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import tyro

from benchmarks.class_material import embedded, read_truth, truth_name
from benchmarks.class_trials import ENOUGH, frequent_mean, percent, with_intervals
from everymask.backbone.registry import load_backbone
from everymask.classes.config import ClassesConfig
from everymask.classes.embeddings import MaskEmbeddings
from everymask.classes.head import ClassHead, load_head
from everymask.classes.segmenter import classify_masks, config_for
from everymask.classes.taxonomy import Taxonomy
from everymask.evaluation.doubt import doubt_figures
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.evaluation.ground_truth import ClassTruth
from everymask.evaluation.semantic import ClassMatches, match_classes


@dataclass(frozen=True)
class HeadConfig:
    """Measure a class head."""

    ground_truth: Path
    """Folder with instances.json and images/, or in VOC's layout."""
    split: str = "val"
    """Which list in VOC's ImageSets/Segmentation."""
    head: str = "everyday"
    """The class head: a file, or the name of a shipped one."""
    thresholds: tuple[float, ...] = (0.3, 0.5, 0.7)
    """Least class probabilities of a labelled mask, a row each."""
    limit: int | None = None
    """Only the first so many images, by name."""
    bootstrap: int = 300
    """Sets of images drawn for the intervals."""
    work: Path = Path("runs/benchmark-classes")
    """Where mask embeddings are kept."""
    threads: int = 1
    """torch threads."""
    json: Path | None = None
    """Also write the figures to this file."""
    classes: ClassesConfig = field(default_factory=ClassesConfig)


def measure(config: HeadConfig) -> dict[str, dict[str, Any]]:
    """The figures, a row for each threshold and one for all masks."""
    torch.set_num_threads(config.threads)
    head = load_head(config.head)
    settings = config_for(head.spec, config.classes)
    truth, classes, folder = read_truth(
        config.ground_truth, config.split, Taxonomy(tuple((name, name) for name in head.spec.classes))
    )
    truth = {name: truth[name] for name in sorted(truth)[: config.limit]}
    backbone = load_backbone(head.spec.backbone, None, "cpu")
    store = config.work / f"{backbone.name}-{backbone.weights_sha256[:12]}"
    pictures = ((name, folder / name) for name in truth)
    records = embedded(backbone, pictures, store / truth_name(config.ground_truth, config.split), settings)
    images = {name: record.embeddings for name, record in records.items()}
    return figure_rows(head, images, truth, classes, config)


def figure_rows(
    head: ClassHead,
    images: Mapping[str, MaskEmbeddings],
    truth: dict[str, ClassTruth],
    classes: Sequence[str],
    config: HeadConfig,
) -> dict[str, dict[str, Any]]:
    """Rows by name; the last is of all masks, each under its likeliest class, as detectors are measured."""

    def matched(threshold: float) -> ClassMatches:
        settings = replace(config.classes, score_thresh=threshold, class_score_thresh={})
        return match_classes(
            {name: classify_masks(one, head, settings) for name, one in images.items()}, truth, classes
        )

    doubt = doubt_figures(head, images, truth, classes)
    aurocs = {"wrong-name": _share(doubt.wrong_name), "missed-object": _share(doubt.missed_object)}
    rows = {f"threshold {value:g}": _row(matched(value), config.bootstrap) | aurocs for value in config.thresholds}
    return rows | {"all masks": _row(matched(0.0), config.bootstrap) | aurocs}


def _row(matches: ClassMatches, samples: int) -> dict[str, Any]:
    figures = matches.figures()
    return {
        "images": figures.images,
        **with_intervals(matches, samples),
        f"mIoU-{ENOUGH}": percent(frequent_mean(figures, "iou")),
        f"mAP50-{ENOUGH}": percent(frequent_mean(figures, "ap50")),
        **{f"IoU:{name}": percent(row.iou) for name, row in figures.classes.items()},
        **{f"AP50:{name}": percent(row.ap50) for name, row in figures.classes.items()},
        **{f"objects:{name}": row.instances for name, row in figures.classes.items()},
    }


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> None:
    config = tyro.cli(HeadConfig, description=__doc__)
    rows = measure(config)
    for name, row in rows.items():
        print(name)
        for column, value in row.items():
            print(f"  {column:<20} {value}")
    if config.json is not None:
        head = load_head(config.head)
        heads = {Path(config.head).name: head.file_sha256 or ""}
        write_figures(config.json, rows, weights_of([head.spec.backbone]), heads)


if __name__ == "__main__":
    main()
