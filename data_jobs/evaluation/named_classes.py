"""Measures methods that name classes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_jobs.evaluation.config import NamedClassesConfig
from data_jobs.evaluation.figures import Figures, ends
from data_jobs.evaluation.pictures import annotated_image, picture_path
from data_jobs.evaluation.workers import label_pictures
from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.head import ClassHead, check_backbone, load_head
from everymask.classes.taxonomy import Taxonomy
from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth import ClassTruth, read_coco_instances, read_voc
from everymask.evaluation.semantic import ClassMatches, match_classes
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_embedding
from everymask.labelling.methods.table import METHODS, check_given, find_method
from everymask.labelling.names import has_names, with_names
from everymask.records import ImageLabels


@dataclass(frozen=True)
class NamingRow:
    """A way to name classes.

    Attributes:
        name: of the row.
        config: method and options.
        head: file of its class head.
        classes: that its masks may have.
    """

    name: str
    config: LabelConfig
    head: str | None
    classes: tuple[str, ...]


@dataclass(frozen=True)
class _Picture:
    name: str
    path: Path
    size_hw: tuple[int, int]


@dataclass
class _Found:
    """A row's results so far, by image name.

    Attributes:
        labels: with the settings' thresholds.
        every_mask: without thresholds.
        seconds: for each image: decoding, embedding, labelling.
    """

    labels: dict[str, ImageLabels] = field(default_factory=dict)
    every_mask: dict[str, ImageLabels] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def add(self, image: str, labels: ImageLabels, every_mask: ImageLabels, seconds: float) -> None:
        self.labels[image], self.every_mask[image] = labels, every_mask
        self.seconds.append(seconds)


def measure_classes(config: NamedClassesConfig) -> Figures:
    """Each row's mIoU with its thresholds, AP and AP50 without thresholds, and milliseconds an image.

    Raises:
        ConfigurationError: unusable ground truth, model, head or names.
        InputError: a picture that is unreadable, or of another size than its annotation.
    """
    rows = naming_rows(config)
    taxonomy = _taxonomy(config.measured, rows)
    truth = _truth(config, taxonomy)
    found = {row.name: _Found() for row in rows}
    pictures = [_Picture(name, picture_path(config.path, name), one.size_hw) for name, one in truth.items()]
    labeller = _NamingLabeller(config, rows)
    for name, answers in label_pictures(labeller, pictures, config.workers):
        for row_name, answer in answers.items():
            found[row_name].add(name, *answer)
    figures: Figures = {}
    for row in rows:
        labels = match_classes(found[row.name].labels, truth, taxonomy.classes)
        every_mask = match_classes(found[row.name].every_mask, truth, taxonomy.classes)
        seconds = mean(found[row.name].seconds)
        figures[row.name] = _figures(labels, every_mask, config.intervals.bootstrap) | {"ms": round(1000 * seconds)}
        if config.price_per_hour is not None:
            figures[row.name]["cost of 1,000"] = round(config.price_per_hour * seconds / 3.6, 4)
        if config.by_class:
            figures |= _by_class(row.name, labels, every_mask, list(figures[row.name]))
    return figures


def naming_rows(config: NamedClassesConfig) -> list[NamingRow]:
    """The rows to measure: method classes once for each head, other methods once.

    Raises:
        ConfigurationError: a method that names no classes, or lacks what it needs.
    """
    by_default = {"classes": config.head, "clip": config.names}
    rows = []
    for method in config.methods or [name for name, given in by_default.items() if given]:
        needs = find_method(method).needs
        labels = replace(config.labels, method=method)
        if needs == "names" and config.names is not None:
            labels = with_names(labels, config.names)
        for head in (config.head or (None,)) if needs == "head" else (None,):
            check_given(method, head=head is not None, names=has_names(labels))
            loaded = None if head is None else load_head(head)
            classes = find_method(method).implementation().class_names(labels, loaded)
            if classes is None:
                naming = ", ".join(name for name, row in METHODS.items() if row.needs is not None)
                raise ConfigurationError(f"method {method} names no classes; choose among {naming}")
            rows.append(NamingRow(_row_name(method, head, config.head), labels, head, classes))
    return rows


def _row_name(method: str, head: str | None, heads: Sequence[str]) -> str:
    if head is None or len(heads) == 1:
        return method
    stems = [Path(one).stem for one in heads]
    return f"{method}, {Path(head).stem if len(set(stems)) == len(stems) else head}"


def _taxonomy(measured: str | None, rows: Sequence[NamingRow]) -> Taxonomy:
    if measured is None:
        shared = [name for name in rows[0].classes if all(name in row.classes for row in rows)]
        if not shared:
            raise ConfigurationError("no class is named by every row; measure heads and names that share classes")
        return Taxonomy(tuple((name, name) for name in shared))
    taxonomy = Taxonomy.parse(measured)
    for row in rows:
        unknown = [name for name in taxonomy.classes if name not in row.classes]
        if unknown:
            raise ConfigurationError(
                f"{row.name} cannot name {', '.join(unknown)}, but {', '.join(row.classes)}; change --measured"
            )
    return taxonomy


def _truth(config: NamedClassesConfig, taxonomy: Taxonomy) -> dict[str, ClassTruth]:
    if config.ground_truth == "voc":
        truth = read_voc(config.path, taxonomy, config.split)
    else:
        truth = read_coco_instances(config.path, taxonomy)
    return dict(sorted(truth.items())[: config.limit])


@dataclass(frozen=True)
class _NamingLabeller:
    """Labels pictures in every row's way, sharing the embedding."""

    config: NamedClassesConfig
    rows: Sequence[NamingRow]

    @property
    def device(self) -> str:
        return self.config.model.device

    def on(self, device: str) -> _NamingLabeller:
        return replace(self, config=replace(self.config, model=replace(self.config.model, device=device)))

    def load(self) -> tuple[PromptableBackbone, Mapping[str, ClassHead]]:
        model = self.config.model
        backbone = load_backbone(model.model, model.checkpoint, model.device, model.precision)
        heads = {row.head: load_head(row.head) for row in self.rows if row.head is not None}
        for head in heads.values():
            check_backbone(head.spec, backbone.name, backbone.weights_sha256)
        for row in self.rows:
            method = find_method(row.config.method).implementation()
            if method.load is not None:
                method.load(row.config, backbone)
        return backbone, heads

    def label(
        self, loaded: tuple[PromptableBackbone, Mapping[str, ClassHead]], picture: _Picture
    ) -> tuple[str, dict[str, tuple[ImageLabels, ImageLabels, float]]]:
        backbone, heads = loaded
        started = time.perf_counter()
        (embedding,) = embed_images(backbone, [annotated_image(picture.path, picture.size_hw)], keep_picture=True)
        if not isinstance(embedding, ImageEmbedding):
            raise embedding
        shared = time.perf_counter() - started
        answers = {}
        for row in self.rows:
            head = None if row.head is None else heads[row.head]
            started = time.perf_counter()
            labels = label_embedding(backbone, embedding, row.config, head)
            seconds = shared + time.perf_counter() - started
            every_mask = find_method(row.config.method).implementation().every_mask(row.config)
            answers[row.name] = labels, label_embedding(backbone, embedding, every_mask, head), seconds
        return picture.name, answers


def _figures(labels: ClassMatches, every_mask: ClassMatches, bootstrap: int) -> dict[str, Any]:
    """Means over classes: pixel figures from `labels`, AP from `every_mask`."""
    by_thresholds, by_all = labels.figures(), every_mask.figures()
    means = {"mIoU": by_thresholds.miou, "AP": by_all.mean_ap, "AP50": by_all.map50}
    drawn: dict[str, NDArray[np.float64]] = {}
    if bootstrap:
        all_drawn = every_mask.bootstrap(bootstrap)
        drawn = {"mIoU": labels.bootstrap(bootstrap)[:, 0], "AP": all_drawn[:, 1], "AP50": all_drawn[:, 2]}
    row: dict[str, Any] = {}
    for column, value in means.items():
        row |= {column: value} | (ends(column, drawn[column]) if drawn else {})
    objects = sum(int(masks.objects.sum()) for masks in labels.masks)
    return row | {"images": by_all.images, "objects": objects}


def _by_class(name: str, labels: ClassMatches, every_mask: ClassMatches, columns: Sequence[str]) -> Figures:
    """A row per class with the same columns, empty for figures that exist only as means."""
    pixels, masks = labels.figures().classes, every_mask.figures().classes
    return {
        f"{name}: {of}": dict.fromkeys(columns)
        | {"mIoU": pixels[of].iou, "AP": masks[of].ap, "AP50": masks[of].ap50, "objects": masks[of].instances}
        for of in pixels
    }
