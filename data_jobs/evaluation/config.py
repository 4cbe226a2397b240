"""Settings of the commands `everymask evaluate …`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from data_jobs.runtime.options import AddressOptions, ModelOptions, refuse_idle
from data_jobs.runtime.settings import JOINED, WITH_DECIDED, Without
from everymask.backbone.models import ModelName
from everymask.classes.config import Recipe
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.errors import ConfigurationError
from everymask.evaluation.annotated import ANNOTATION_FORMATS, AnnotationFormat
from everymask.labelling.config import LabelConfig
from everymask.labelling.methods.table import MethodName, check_model
from everymask.labelling.names import NAMED

MeasuredModel = ModelName | Literal["oracle"]
CROPS = ("crop_n_layers", "crop_overlap_ratio", "crop_n_points_downscale_factor")
"""Settings of `AmgConfig` that need the image, where there is but its embedding."""


@dataclass(frozen=True)
class FiguresOptions:
    """Where figures go."""

    json: Path | None = None
    """Also write the figures to this file, with the command, the commit, the day and the weights' digests."""


@dataclass(frozen=True)
class IntervalOptions:
    """How sure figures are."""

    bootstrap: int = 1000
    """Sets of images drawn for the 95 % intervals; 0 leaves the intervals out."""

    def __post_init__(self) -> None:
        if self.bootstrap < 0:
            raise ConfigurationError(f"bootstrap must not be negative; got {self.bootstrap}")


@dataclass(frozen=True)
class EntityFiguresOptions(IntervalOptions):
    """How AP^e is given."""

    max_dets: int | None = 100
    """Give AP^e also with at most so many masks an image, those with the highest scores; 100 as EntitySeg's evaluator
    and pycocotools have it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_1("max_dets", self.max_dets)


@dataclass(frozen=True)
class StoredConfig:
    """A label store against ground truth."""

    labels: str
    """Label store to measure: a directory, or an address such as s3://bucket/run."""
    path: Path
    """Folder of ground truth: panoptic.json and panoptic/ for coco_panoptic; segments/ for bsds; instances.json for
    coco_instances; JPEGImages/, SegmentationClass/ and SegmentationObject/ for voc. Of an annotation tool: its file, or
    its folder of files; data.yaml for yolo."""
    ground_truth: Literal["coco_panoptic", "entityseg", "bsds", "coco_instances", "voc"] | AnnotationFormat = (
        "coco_panoptic"
    )
    """coco_panoptic and entityseg: AP^e of entities; bsds: covering of human segmentations; coco_instances and voc:
    mIoU (with background) and mAP50 of named classes; coco, label-studio, x-anylabeling, labelme, cvat and yolo: what
    people have drawn on images of this store, found by id, name or path."""
    annotations: Path | None = None
    """For entityseg: its COCO-style JSON file, of high or of low resolution; categories are not looked at."""
    classes: str | None = None
    """For coco_instances and voc: the classes measured, `cat,dog`, or `animals=cat+dog` where a class of the labels
    gathers several of the ground truth. By default the classes that the labels name."""
    split: str | None = None
    """For voc: a list in ImageSets/Segmentation, e.g. val; by default every segmented image."""
    embeddings: str | None = None
    """For classes: mask embeddings of the images (`everymask label --save-embeddings`). With --head, AP50 without a
    threshold is given, too, and how well doubt tells of wrong names and of missed objects (AUROC)."""
    head: str | None = None
    """The class head that named the masks, to go with --embeddings."""
    worst: Path | None = None
    """With annotations of a tool: write a page of the 24 worst images, annotated and labelled side by side (.html)."""
    thresholds: Path | None = None
    """With annotations of a tool: choose a score threshold for each class on half of the images, measure it on the
    others, and write it for `everymask label --config` (.yaml)."""
    uncorrected: bool = False
    """Measure the labels as the model made them, without the corrections of people."""
    overlaps: Literal["refuse", "resolve", "keep"] = "refuse"
    """AP^e is defined on disjoint masks. refuse: masks that overlap are an error; resolve: their pixels go to the mask
    with the highest score; keep: they are measured as they are, and the figure is not AP^e proper."""
    entity_figures: Annotated[EntityFiguresOptions, JOINED] = field(default_factory=EntityFiguresOptions)
    figures: Annotated[FiguresOptions, JOINED] = field(default_factory=FiguresOptions)
    addresses: Annotated[AddressOptions, JOINED] = field(default_factory=AddressOptions)

    def __post_init__(self) -> None:
        check_annotations(self.ground_truth, self.annotations)
        if (self.embeddings is None) != (self.head is None):
            raise ConfigurationError("--embeddings and --head go together; give both, or neither")
        if self.head is not None and self.ground_truth in ("coco_panoptic", "entityseg", "bsds"):
            raise ConfigurationError("--head measures classes; name a --ground-truth of classes, or leave it out")
        check_split(self, self.ground_truth)
        if self.ground_truth not in ("coco_instances", "voc"):
            refuse_idle(self, ("classes",), f"with --ground-truth {self.ground_truth}")
        if (self.worst or self.thresholds) and self.ground_truth not in ANNOTATION_FORMATS:
            raise ConfigurationError("--worst and --thresholds need annotations of a tool, such as --ground-truth cvat")


@dataclass(frozen=True)
class EntitiesConfig:
    """E-SAM beside its parts and SAM's automatic masks, on annotated pictures."""

    path: Path
    """Folder of ground truth: panoptic.json, panoptic/ and images/ for coco_panoptic; the pictures for entityseg."""
    ground_truth: Literal["coco_panoptic", "entityseg"] = "coco_panoptic"
    """Whose annotations are in it."""
    annotations: Path | None = None
    """For entityseg: its COCO-style JSON file, of high or of low resolution; categories are not looked at."""
    table: Literal[1, 2, 3, 4] = 3
    """Which table of E-SAM's paper; its rows that are about SAM. 1 and 2: AMG, object level and E-SAM, on EntitySeg's
    high and low resolution; 3: every combination of E-SAM's modules; 4: thresholds and numbers of points."""
    models: tuple[MeasuredModel, ...] = ("nano",)
    """Backbones, one after the other. `oracle` answers clicks from the ground truth instead of from weights: it
    measures the modules, not SAM."""
    oracle: Literal["exact", "like-sam", "no-giants"] = "like-sam"
    """Whether the oracle errs: not at all, or in SAM's ways; no-giants leaves out masks of the whole picture."""
    checkpoint: str | None = None
    """Other weights for the model: a file or an http(s) URL."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    limit: int | None = None
    """Only the first so many pictures, by name."""
    workers: int | None = None
    """Processes that label the pictures; 1 labels in this one, without Ray. By default one a GPU, or one a CPU core."""
    entity_figures: Annotated[EntityFiguresOptions, JOINED] = field(default_factory=EntityFiguresOptions)
    figures: Annotated[FiguresOptions, JOINED] = field(default_factory=FiguresOptions)
    entities: Annotated[EntityConfig, WITH_DECIDED] = field(default_factory=EntityConfig)
    amg: Annotated[AmgConfig, WITH_DECIDED, Without(CROPS)] = field(default_factory=AmgConfig)

    def __post_init__(self) -> None:
        check_annotations(self.ground_truth, self.annotations)
        if not self.models or (len(self.models) > 1 and self.checkpoint is not None):
            raise ConfigurationError("--checkpoint is of one model; give one name with --models")
        if "oracle" not in self.models:
            refuse_idle(self, ("oracle",), "without --models oracle")
        at_least_1("limit", self.limit)
        at_least_1("workers", self.workers)


@dataclass(frozen=True)
class NamedClassesConfig:
    """Methods that name classes, on annotated pictures."""

    path: Path
    """Folder of ground truth: PASCAL VOC's own layout for voc; instances.json and images/ for coco_instances."""
    ground_truth: Literal["voc", "coco_instances"] = "voc"
    """Whose annotations are in it."""
    split: str | None = None
    """For voc: a list in ImageSets/Segmentation, e.g. val; by default every segmented image."""
    limit: int | None = None
    """Only the first so many pictures, by name."""
    measured: str | None = None
    """The classes measured: `cat,dog`, or `airplane=aeroplane,pet=cat+dog` where the ground truth calls them otherwise.
    By default those that every row can name."""
    head: tuple[str, ...] = ()
    """Class heads, a row each by method classes."""
    names: str | None = None
    """Names for rows by methods clip and concepts: `cat,dog,background`."""
    methods: tuple[MethodName, ...] = ()
    """Methods to measure; by default classes where a head is given, and clip where names are."""
    recipe: Recipe = "default"
    """paper: masks, thresholds and suppression of method classes as published. An option given beside it wins."""
    by_class: bool = False
    """Also a row for background and for each class."""
    price_per_hour: float | None = None
    """What the machine that labels costs for an hour; the table then has the cost of 1,000 images."""
    model: Annotated[ModelOptions, JOINED] = field(default_factory=ModelOptions)
    workers: int | None = None
    """Processes that label the pictures; 1 labels in this one, without Ray. By default one a GPU, or one a CPU core."""
    intervals: Annotated[IntervalOptions, JOINED] = field(default_factory=IntervalOptions)
    figures: Annotated[FiguresOptions, JOINED] = field(default_factory=FiguresOptions)
    labels: Annotated[LabelConfig, JOINED, Without(("method", "entities", "amg", "tiles", *NAMED))] = field(
        default_factory=LabelConfig
    )

    def __post_init__(self) -> None:
        if not self.head and self.names is None and not self.methods:
            raise ConfigurationError("nothing is to be measured; give --head FILE, --names cat,dog, or both")
        for method in self.methods:
            check_model(method, self.model.model)
        check_split(self, self.ground_truth)
        at_least_1("limit", self.limit)
        at_least_1("workers", self.workers)
        if self.price_per_hour is not None and not self.price_per_hour > 0:
            raise ConfigurationError(f"price-per-hour must be above 0; got {self.price_per_hour}")


@dataclass(frozen=True)
class ClickedPictures:
    """Annotated pictures that a model is asked about."""

    path: Path
    """Folder of ground truth, with images/: panoptic.json and panoptic/ for coco_panoptic; instances.json for
    coco_instances; segments/ for bsds; labels/ for objects; VOC's own layout for voc."""
    ground_truth: Literal["coco_panoptic", "coco_instances", "bsds", "voc", "objects"] = "coco_panoptic"
    """Whose annotations are in it."""
    split: str | None = None
    """For voc: a list in ImageSets/Segmentation, e.g. val; by default every segmented image."""
    min_area: float = 0.0
    """Segments under this share of the picture are neither clicked nor looked for."""
    limit: int | None = None
    """Only the first so many pictures, by name."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_area < 1:
            raise ConfigurationError(f"min-area is a share of the picture in [0, 1); got {self.min_area}")
        check_split(self, self.ground_truth)
        at_least_1("limit", self.limit)


@dataclass(frozen=True)
class ClicksConfig:
    """A model's answers to a click on every segment, beside a baseline that learns nothing."""

    pictures: Annotated[ClickedPictures, JOINED]
    model: Annotated[ModelOptions, JOINED] = field(default_factory=ModelOptions)
    details: bool = False
    """Also print how the model's predicted IoU compares with the real one, and what its best masks do wrong by size."""
    figures: Annotated[FiguresOptions, JOINED] = field(default_factory=FiguresOptions)


@dataclass(frozen=True)
class ProposalsConfig:
    """How many segments the masks of a grid of clicks find: all of them, and those that AMG leaves."""

    pictures: Annotated[ClickedPictures, JOINED]
    model: Annotated[ModelOptions, JOINED] = field(default_factory=ModelOptions)
    figures: Annotated[FiguresOptions, JOINED] = field(default_factory=FiguresOptions)
    amg: Annotated[AmgConfig, WITH_DECIDED, Without(CROPS)] = field(default_factory=AmgConfig)


def check_annotations(ground_truth: str, annotations: Path | None) -> None:
    """ConfigurationError if EntitySeg lacks its file, or another ground truth has one."""
    if (ground_truth == "entityseg") != (annotations is not None):
        raise ConfigurationError("--ground-truth entityseg and --annotations FILE go together")


def check_split(config: object, ground_truth: str) -> None:
    """Raises ConfigurationError where a split is named and the ground truth has none."""
    if ground_truth != "voc":
        refuse_idle(config, ("split",), f"with --ground-truth {ground_truth}")


def at_least_1(name: str, value: int | None) -> None:
    """ConfigurationError for a number of 0 or less."""
    if value is not None and value < 1:
        raise ConfigurationError(f"{name.replace('_', '-')} must be at least 1; got {value}")
