"""Measures a label store on ground truth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from data_jobs.evaluation.annotated_store import measure_annotated
from data_jobs.evaluation.config import StoredConfig
from data_jobs.evaluation.figures import Figures, entity_row
from data_jobs.evaluation.pictures import entity_truth
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import InputError
from everymask.evaluation.annotated import ANNOTATION_FORMATS
from everymask.evaluation.covering import segmentation_covering
from everymask.evaluation.disjoint import resolve_overlaps
from everymask.evaluation.entity_ap import match_entities
from everymask.evaluation.ground_truth import read_bsds, read_coco_instances, read_voc
from everymask.evaluation.semantic import semantic_figures
from everymask.labels.corrections import corrected, read_corrections
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels


def measure_store(config: StoredConfig) -> Figures:
    """The measure that fits the ground truth.

    Raises:
        ConfigurationError: unusable ground truth.
        InputError: labels that do not belong to it, or whose masks overlap.
    """
    if config.ground_truth in ANNOTATION_FORMATS:
        return measure_annotated(config)
    labels = _stored_labels(config.labels, config.overlaps == "resolve", config.uncorrected)
    if config.ground_truth in ("coco_instances", "voc"):
        return _class_figures(config, labels)
    if config.ground_truth == "bsds":
        return {config.labels: asdict(segmentation_covering(labels, read_bsds(config.path)))}
    matches = match_entities(labels, entity_truth(config), config.overlaps == "keep")
    return {config.labels: entity_row(matches, config.entity_figures.max_dets, config.entity_figures.bootstrap)}


def _stored_labels(place: str, disjoint: bool, uncorrected: bool) -> dict[str, ImageLabels]:
    """The store's labels by file name, optionally made disjoint, without failed images.

    Corrected images are as people left them, unless `uncorrected`.
    """
    labels = {}
    store = LabelStore(place)
    corrections = {} if uncorrected else read_corrections(store)
    for image in (corrected(row, corrections) for row in store.images()):
        name = Path(image.image_id).name
        if name in labels:
            raise InputError(f"{place} holds two images named {name}; evaluate one folder at a time")
        if image.labels is not None:
            labels[name] = resolve_overlaps(image.labels) if disjoint else image.labels
    return labels


def _class_figures(config: StoredConfig, labels: dict[str, ImageLabels]) -> Figures:
    """A row of means, then a row for background and for each class."""
    named = sorted({mask.class_name for image in labels.values() for mask in image.masks if mask.class_name})
    taxonomy = Taxonomy.parse(config.classes) if config.classes else Taxonomy(tuple((name, name) for name in named))
    if config.ground_truth == "voc":
        truth = read_voc(config.path, taxonomy, config.split)
    else:
        truth = read_coco_instances(config.path, taxonomy)
    figures = semantic_figures(labels, truth, taxonomy.classes)
    counts = sum(row.instances for row in figures.classes.values())
    means = {"mean": {"IoU": figures.miou, "AP50": figures.map50, "instances": counts}}
    rows = {
        name: {"IoU": row.iou, "AP50": row.ap50, "instances": row.instances} for name, row in figures.classes.items()
    }
    if config.embeddings is None or config.head is None:
        return means | rows
    # Here alone: half a GiB of model code that others do without.
    from data_jobs.evaluation.by_head import with_head_figures

    return with_head_figures(
        means | rows, config.embeddings, config.head, truth, taxonomy.classes, lambda image_id: Path(image_id).name
    )
