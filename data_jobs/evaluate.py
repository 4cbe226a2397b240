"""Measure labels against ground truth, E-SAM's modules against each other, or a model's answers to clicks.

    python data_jobs/evaluate.py --labels DIR --ground-truth coco_panoptic --path DIR     AP^e of a label store
    python data_jobs/evaluate.py --labels DIR --ground-truth bsds --path DIR              segmentation covering
    python data_jobs/evaluate.py --labels DIR --ground-truth coco_instances --path DIR    mIoU and mAP50 of class masks
    python data_jobs/evaluate.py --labels DIR --ground-truth voc --path VOC2012           the same on PASCAL VOC
    python data_jobs/evaluate.py --ablation --path DIR                                    the modules of E-SAM, and AMG
    python data_jobs/evaluate.py --clicks --path DIR [--ground-truth bsds]                the model's answers to clicks
    python data_jobs/evaluate.py --clicks --ground-truth voc --split val --min-area 0.01 --path VOC2012
    python data_jobs/evaluate.py --proposals --path DIR                                   recall of AMG's masks

Exit codes: 0 done; 2 usage, or the labels and the ground truth do not fit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from everymask.backbone import load_backbone
from everymask.classes.class_set import ClassSet
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.errors import ConfigurationError, EverymaskError, InputError
from everymask.evaluation.ablation import AblationRow, ablation_rows
from everymask.evaluation.clicks import (
    backbone_answers,
    click_errors,
    click_figures,
    click_pictures,
    click_scores,
    felzenszwalb_answers,
    reliability,
)
from everymask.evaluation.covering import segmentation_covering
from everymask.evaluation.disjoint import resolve_overlaps
from everymask.evaluation.entity_ap import entity_ap
from everymask.evaluation.ground_truth import (
    PictureReference,
    bsds_pictures,
    coco_instance_pictures,
    coco_panoptic_pictures,
    object_pictures,
    read_bsds,
    read_coco_instances,
    read_coco_panoptic,
    read_voc,
    voc_pictures,
)
from everymask.evaluation.proposals import proposal_recall
from everymask.evaluation.semantic import semantic_figures
from everymask.images import decode_image
from everymask.labels.store import LabelStore
from everymask.models import ModelName
from everymask.records import ImageLabels


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured against what. Give --labels, or --ablation."""

    path: Path
    """Folder of ground truth: panoptic.json, panoptic/ and images/ for coco_panoptic; segments/ for bsds;
    instances.json for coco_instances; JPEGImages/, SegmentationClass/ and SegmentationObject/ for voc; images/ and
    labels/ for objects."""
    labels: str | None = None
    """Label store to measure: a directory, or an address such as s3://bucket/run."""
    ground_truth: Literal["coco_panoptic", "bsds", "coco_instances", "voc", "objects"] = "coco_panoptic"
    """coco_panoptic: AP^e of entities; bsds: covering of human segmentations; coco_instances and voc: mIoU (with
    background) and mAP50 of named classes. All of them, and objects, can be clicked."""
    classes: str | None = None
    """For coco_instances and voc: the classes measured, `cat,dog`, or `animals=cat+dog` where a class of the labels
    gathers several of the ground truth. By default the classes that the labels name."""
    split: str | None = None
    """For voc: a list in ImageSets/Segmentation, e.g. val; by default every segmented image."""
    resolve_overlaps: bool = False
    """Give pixels in several masks to the one with the highest score first. AP^e refuses masks that overlap."""
    ablation: bool = False
    """Label the images of --path with every combination of E-SAM's modules, with AMG and with SAM's object level."""
    clicks: bool = False
    """Click every segment of the ground truth once, and measure the answers of --model beside a baseline that learns
    nothing; --path needs images/ too."""
    details: bool = False
    """With --clicks: also print how the model's predicted IoU compares with the real one, and what its best masks do
    wrong by size."""
    proposals: bool = False
    """Average recall of the masks of a grid of clicks: all of them, and those that AMG's thresholds and NMS leave."""
    min_area: float = 0.0
    """Segments under this share of the picture are neither clicked nor looked for."""
    model: ModelName = "nano"
    """Backbone of the ablation, the clicks and the proposals."""
    checkpoint: str | None = None
    """Other weights for it: a file or an http(s) URL."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    limit: int | None = None
    """Only the first so many images of the ablation, the clicks or the proposals, by name."""
    json: Path | None = None
    """Also write the figures to this file."""
    entities: EntityConfig = field(default_factory=EntityConfig)
    """Settings of E-SAM in the ablation."""
    amg: AmgConfig = field(default_factory=AmgConfig)
    """Settings of AMG in the ablation and of the proposals."""

    def __post_init__(self) -> None:
        if self.ablation + self.clicks + self.proposals + (self.labels is not None) != 1:
            raise ConfigurationError("give either --labels DIR or --ablation or --clicks or --proposals, one of them")
        if self.ablation and self.ground_truth != "coco_panoptic":
            raise ConfigurationError("--ablation measures AP^e; it needs --ground-truth coco_panoptic")
        if self.labels is not None and self.ground_truth == "objects":
            raise ConfigurationError("--ground-truth objects has no measure of labels; it can be clicked with --clicks")
        if not 0 <= self.min_area < 1:
            raise ConfigurationError(f"--min-area is a share of the picture in [0, 1); got {self.min_area}")


def evaluate(config: EvaluateConfig) -> dict[str, dict[str, Any]]:
    """Rows of figures by name.

    Raises:
        ConfigurationError: options or ground truth that cannot be used.
        InputError: labels that do not belong to the ground truth, or whose masks overlap.
    """
    if config.ablation:
        return _ablation(config)
    if config.clicks:
        return _clicks(config)
    if config.proposals:
        return _proposals(config)
    assert config.labels is not None
    labels = _stored_labels(config)
    if config.ground_truth in ("coco_instances", "voc"):
        return _class_figures(config, labels)
    return {config.labels: _MEASURES[config.ground_truth](labels, config.path)}


def _stored_labels(config: EvaluateConfig) -> dict[str, ImageLabels]:
    """Labels of the store by file name; images that failed have none."""
    assert config.labels is not None
    labels = {}
    for image in LabelStore(config.labels).images():
        name = Path(image.image_id).name
        if name in labels:
            raise InputError(f"{config.labels} holds two images named {name}; evaluate one folder at a time")
        if image.labels is not None:
            labels[name] = resolve_overlaps(image.labels) if config.resolve_overlaps else image.labels
    return labels


def _entity_figures(labels: dict[str, ImageLabels], path: Path) -> dict[str, Any]:
    return asdict(entity_ap(labels, read_coco_panoptic(path)))


def _covering_figures(labels: dict[str, ImageLabels], path: Path) -> dict[str, Any]:
    return asdict(segmentation_covering(labels, read_bsds(path)))


def _class_figures(config: EvaluateConfig, labels: dict[str, ImageLabels]) -> dict[str, dict[str, Any]]:
    """A row of means, then a row for background and for each class."""
    named = sorted({mask.class_name for image in labels.values() for mask in image.masks if mask.class_name})
    class_set = ClassSet.parse(config.classes) if config.classes else ClassSet(tuple((name, name) for name in named))
    if config.ground_truth == "voc":
        truth = read_voc(config.path, class_set, config.split)
    else:
        truth = read_coco_instances(config.path, class_set)
    figures = semantic_figures(labels, truth, class_set.classes)
    counts = sum(row.instances for row in figures.classes.values())
    means = {"mean": {"IoU": figures.miou, "AP50": figures.map50, "instances": counts}}
    rows = {
        name: {"IoU": row.iou, "AP50": row.ap50, "instances": row.instances} for name, row in figures.classes.items()
    }
    return means | rows


_MEASURES: dict[str, Callable[[dict[str, ImageLabels], Path], dict[str, Any]]] = {
    "coco_panoptic": _entity_figures,
    "bsds": _covering_figures,
}


def _clicks(config: EvaluateConfig) -> dict[str, dict[str, Any]]:
    backbone = load_backbone(config.model, config.checkpoint, config.device)
    pictures = _pictures(config)[: config.limit]
    scores = click_scores(backbone_answers(backbone), click_pictures(pictures, config.min_area))
    if config.details:
        print(table(reliability(scores)), table(click_errors(scores)), sep="\n\n", end="\n\n")
    baseline = click_scores(felzenszwalb_answers(), click_pictures(pictures, config.min_area))
    return {config.model: asdict(click_figures(scores)), "felzenszwalb": asdict(click_figures(baseline))}


def _proposals(config: EvaluateConfig) -> dict[str, dict[str, Any]]:
    backbone = load_backbone(config.model, config.checkpoint, config.device)
    pictures = click_pictures(_pictures(config)[: config.limit], config.min_area)
    return {name: asdict(recall) for name, recall in proposal_recall(backbone, pictures, config.amg).items()}


def _pictures(config: EvaluateConfig) -> list[PictureReference]:
    if config.ground_truth == "voc":
        return voc_pictures(config.path, config.split)
    return _PICTURES[config.ground_truth](config.path)


_PICTURES: dict[str, Callable[[Path], list[PictureReference]]] = {
    "coco_panoptic": coco_panoptic_pictures,
    "coco_instances": coco_instance_pictures,
    "bsds": bsds_pictures,
    "objects": object_pictures,
}


def _ablation(config: EvaluateConfig) -> dict[str, dict[str, Any]]:
    truth = dict(sorted(read_coco_panoptic(config.path).items())[: config.limit])
    rows = ablation_rows(config.entities, config.amg)
    predictions: dict[str, dict[str, ImageLabels]] = {row.name: {} for row in rows}
    for name, labels in _labelled(config, list(truth), rows):
        for row, row_labels in labels.items():
            predictions[row][name] = row_labels
    return {name: asdict(entity_ap(labels, truth)) for name, labels in predictions.items()}


def _labelled(
    config: EvaluateConfig, names: list[str], rows: list[AblationRow]
) -> Iterator[tuple[str, dict[str, ImageLabels]]]:
    """Every image labelled by every row, embedded once."""
    paths = {name: config.path / "images" / name for name in names}
    for path in paths.values():
        if not path.is_file():
            raise ConfigurationError(f"{path} is annotated but not there; --path needs the images too")
    backbone = load_backbone(config.model, config.checkpoint, config.device)
    for position, (name, path) in enumerate(paths.items()):
        embedding = backbone.embed([decode_image(path.read_bytes())])[0]
        print(f"\r{position + 1}/{len(names)} {name}", end="", file=sys.stderr, flush=True)
        yield name, {row.name: row.segment(backbone, embedding) for row in rows}
    print(file=sys.stderr)


def table(figures: dict[str, dict[str, Any]]) -> str:
    """Figures as aligned columns; shares in percent."""
    columns = list(next(iter(figures.values())))
    width = max(len(name) for name in figures)
    lines = [" " * width + "".join(f"{column:>13}" for column in columns)]
    for name, row in figures.items():
        cells = (f"{100 * value:.1f}" if isinstance(value, float) else _plain(value) for value in row.values())
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>13}" for cell in cells))
    return "\n".join(lines)


def _plain(value: object) -> str:
    return "-" if value is None else str(value)


def main(arguments: list[str] | None = None, program: str = "python data_jobs/evaluate.py") -> int:
    """The command; returns its exit code."""
    try:
        config = tyro.cli(EvaluateConfig, args=arguments, prog=program, description=__doc__)
        figures = evaluate(config)
        print(table(figures))
        if config.json is not None:
            config.json.write_text(json.dumps(figures, indent=2) + "\n")
    except EverymaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
