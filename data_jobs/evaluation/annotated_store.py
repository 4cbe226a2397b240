"""Measures a label store on people's annotations of its images."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from data_jobs.evaluation.config import StoredConfig
from data_jobs.evaluation.figures import Figures, class_rows, entity_row
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError, InputError
from everymask.evaluation.annotated import Annotated, class_truth, entity_truth, read_annotated
from everymask.evaluation.disjoint import resolve_overlaps
from everymask.evaluation.entity_ap import match_entities
from everymask.evaluation.ground_truth import ClassTruth
from everymask.evaluation.pairs_page import Pair, pairs_page
from everymask.evaluation.semantic import image_iou, semantic_figures
from everymask.evaluation.thresholds import best_threshold, is_for_choosing, judge
from everymask.files.addresses import AddressPolicy
from everymask.files.location import Location
from everymask.images.decoding import ImageLimits
from everymask.labels.address_policy import address_policy
from everymask.labels.corrections import corrected, read_corrections
from everymask.labels.rows import ImageRow
from everymask.labels.store import LabelStore
from everymask.masks.rle import boxes_from_rles, rle_areas
from everymask.records import ImageLabels, LabelledMask
from everymask.wording import counted

_WORST = 24


@dataclass(frozen=True)
class _Rows:
    """A store's annotated images: their rows, and their labels as people left them, both by image id."""

    rows: Mapping[str, ImageRow]
    seen: Mapping[str, ImageLabels]

    @property
    def machine(self) -> dict[str, ImageLabels]:
        return {image_id: row.labels for image_id, row in self.rows.items() if row.labels is not None}


def measure_annotated(config: StoredConfig) -> Figures:
    """mIoU, AP and AP50 of classes, or AP^e of entities, on the store's annotated images.

    Raises:
        ConfigurationError: options that need classes.
        InputError: annotations that are unreadable, or of no image of the store.
        OutputError: a file cannot be written.
    """
    store = LabelStore(config.labels)
    assert config.ground_truth in ("coco", "label-studio", "x-anylabeling", "labelme", "cvat", "yolo")
    annotated = read_annotated(store, config.path, config.ground_truth)
    for note in annotated.notes:
        print(note, file=sys.stderr)
    rows = _rows(store, annotated, config.uncorrected)
    sizes = {image_id: labels.size_hw for image_id, labels in rows.machine.items()}
    annotated = replace(annotated, images={one: image for one, image in annotated.images.items() if one in sizes})
    if not sizes:
        raise InputError(f"every annotated image of {store.uri} has an error in place of labels; retry them first")
    named = sorted({mask.class_name for labels in rows.seen.values() for mask in labels.masks if mask.class_name})
    named = named or store.configuration().get("class_names") or []  # a store of classes in which none was found
    if not named and not config.classes:
        return _entity_figures(config, rows, annotated, sizes)
    taxonomy = Taxonomy.parse(config.classes) if config.classes else Taxonomy(tuple((name, name) for name in named))
    truth = class_truth(annotated, taxonomy, sizes, config.path)
    figures = class_rows(semantic_figures(rows.seen, truth, taxonomy.classes))
    if config.embeddings is not None and config.head is not None:
        # Here alone: half a GiB of model code that others do without.
        from data_jobs.evaluation.by_head import with_head_figures

        figures = with_head_figures(figures, config.embeddings, config.head, truth, taxonomy.classes, str)
    if config.thresholds is not None:
        figures = _with_thresholds(config.thresholds, store, rows, truth, taxonomy.classes, figures)
    if config.worst is not None:
        policy = address_policy(store, config.addresses.local_root, config.addresses.allow_private_networks)
        page = _worst(rows, truth, taxonomy.classes, config.ground_truth, policy)
        Location.at(str(config.worst)).write(page.encode())
    return figures


def _rows(store: LabelStore, annotated: Annotated, uncorrected: bool) -> _Rows:
    corrections = {} if uncorrected else read_corrections(store)
    rows = {image.image_id: image for image in store.images() if image.image_id in annotated.images}
    seen = {image_id: corrected(row, corrections).labels for image_id, row in rows.items()}
    return _Rows(rows, {image_id: labels for image_id, labels in seen.items() if labels is not None})


def _entity_figures(
    config: StoredConfig, rows: _Rows, annotated: Annotated, sizes: Mapping[str, tuple[int, int]]
) -> Figures:
    if config.thresholds is not None or config.worst is not None:
        raise ConfigurationError("--thresholds and --worst measure classes; this store holds entities")
    labels = {
        image_id: resolve_overlaps(one) if config.overlaps == "resolve" else one for image_id, one in rows.seen.items()
    }
    matches = match_entities(labels, entity_truth(annotated, sizes), config.overlaps == "keep")
    return {config.labels: entity_row(matches, config.entity_figures.max_dets, config.entity_figures.bootstrap)}


def _with_thresholds(
    output: Path,
    store: LabelStore,
    rows: _Rows,
    truth: Mapping[str, ClassTruth],
    classes: tuple[str, ...],
    figures: Figures,
) -> Figures:
    """Choose thresholds on half of the images, write them, and add their effect on the other half to the figures."""
    halves: dict[bool, list[str]] = {True: [], False: []}
    for image_id in truth:
        halves[is_for_choosing(image_id)].append(image_id)
    by_iou = (store.configuration().get("classes") or {}).get("score") != "probability"
    chosen_on, measured_on = (judge(rows.machine, truth, classes, halves[part], by_iou) for part in (True, False))
    thresholds = {name: best_threshold(judged) for name, judged in chosen_on.items()}
    written = {name: round(value, 4) for name, value in thresholds.items() if value is not None}
    text = f"# Chosen on {counted(len(halves[True]), 'annotated image')} of {store.uri}\n"
    text += f"# everymask label --config {output} --head HEAD …\n"
    text += yaml.safe_dump({"method": "classes", "classes": {"class_score_thresh": written}}, allow_unicode=True)
    Location.at(str(output)).write(text.encode())
    for name, row in figures.items():
        judged, value = measured_on.get(name), thresholds.get(name)
        row["threshold"] = None if value is None else f"{value:.3f}"
        row["F1 before"] = None if judged is None else judged.f1(0.0)
        row["F1 with it"] = None if judged is None or value is None else judged.f1(value)
    return figures


def _worst(
    rows: _Rows, truth: Mapping[str, ClassTruth], classes: tuple[str, ...], tool: str, policy: AddressPolicy
) -> str:
    ious = {image_id: image_iou(rows.seen.get(image_id), one, classes) for image_id, one in truth.items()}
    pairs = []
    for image_id in sorted(ious, key=lambda image_id: (ious[image_id], image_id))[:_WORST]:
        labels = rows.seen[image_id]
        numbers = {name: class_id for class_id, name in enumerate(classes)}
        shown = tuple(
            replace(mask, class_id=numbers[mask.class_name]) for mask in labels.masks if mask.class_name in numbers
        )
        drawn = _as_labels(truth[image_id], classes)
        said = f"mean IoU of its classes {ious[image_id]:.2f}"
        pairs.append(Pair(rows.rows[image_id], said, drawn, replace(labels, masks=shown)))
    title = "Where labels and annotations differ most"
    return pairs_page(title, f"annotated ({tool})", "labelled", pairs, ImageLimits(), policy)


def _as_labels(truth: ClassTruth, classes: tuple[str, ...]) -> ImageLabels:
    rles = [one.rle for one in truth.instances]
    boxes = boxes_from_rles(rles).tolist() if rles else []
    masks = [
        LabelledMask(
            one.rle, (x0, y0, x1, y1), int(area), 1.0, 1.0, (0.0, 0.0), 1.0, one.class_id, classes[one.class_id]
        )
        for one, (x0, y0, x1, y1), area in zip(truth.instances, boxes, rle_areas(rles), strict=True)
    ]
    return ImageLabels(truth.size_hw, tuple(masks), 0.0)
