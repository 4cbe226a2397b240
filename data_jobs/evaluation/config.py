"""What `evaluate.py` can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from everymask.backbone.models import ModelName
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.errors import ConfigurationError

MeasuredModel = ModelName | Literal["oracle"]


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured against what. Give --labels, --ablation, --table or --clicks."""

    path: Path
    """Folder of ground truth: panoptic.json, panoptic/ and images/ for coco_panoptic; the pictures for entityseg;
    segments/ for bsds; instances.json for coco_instances; JPEGImages/, SegmentationClass/ and SegmentationObject/ for
    voc; images/ and labels/ for objects."""
    labels: str | None = None
    """Label store to measure: a directory, or an address such as s3://bucket/run."""
    ground_truth: Literal["coco_panoptic", "entityseg", "bsds", "coco_instances", "voc", "objects"] = "coco_panoptic"
    """coco_panoptic and entityseg: AP^e of entities; bsds: covering of human segmentations; coco_instances and voc:
    mIoU (with background) and mAP50 of named classes. All but entityseg can be clicked, and so can objects."""
    annotations: Path | None = None
    """For entityseg: its COCO-style JSON file, of high or of low resolution; categories are not looked at."""
    classes: str | None = None
    """For coco_instances and voc: the classes measured, `cat,dog`, or `animals=cat+dog` where a class of the labels
    gathers several of the ground truth. By default the classes that the labels name."""
    split: str | None = None
    """For voc: a list in ImageSets/Segmentation, e.g. val; by default every segmented image."""
    uncorrected: bool = False
    """Measure the labels as the model made them, without the corrections of people."""
    resolve_overlaps: bool = False
    """Give pixels in several masks to the one with the highest score first. AP^e refuses masks that overlap."""
    allow_overlap: bool = False
    """Measure masks that overlap as they are. AP^e is defined on disjoint masks, so the figure is not AP^e proper."""
    max_dets: int | None = None
    """Give AP^e also with at most so many masks an image, those with the highest scores; pycocotools' default is
    100."""
    bootstrap: int = 1000
    """Sets of images drawn for the 95 % intervals of AP^e; 0 leaves the intervals out."""
    ablation: bool = False
    """Label the images of --path with every combination of E-SAM's modules, with AMG and with SAM's object level."""
    table: Literal[1, 2, 3, 4] | None = None
    """The rows of that table of E-SAM's paper that are about SAM. 1 and 2: AMG, object level and E-SAM, on EntitySeg's
    high and low resolution; 3: the ablation; 4: thresholds and numbers of points."""
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
    model: MeasuredModel = "nano"
    """Backbone of tables, clicks and proposals. For tables also `oracle`, which answers clicks from the ground truth
    instead of from weights: it measures the modules, not SAM."""
    models: tuple[MeasuredModel, ...] = ()
    """Several backbones for tables, one after the other, in place of --model."""
    oracle: Literal["exact", "like-sam"] = "like-sam"
    """Whether the oracle errs: not at all, or in the ways that E-SAM's paper says of SAM."""
    checkpoint: str | None = None
    """Other weights for --model: a file or an http(s) URL."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    limit: int | None = None
    """Only the first so many images of tables, clicks or proposals, by name."""
    workers: int | None = None
    """Processes that label the images of a table; 1 labels in this one, without Ray. By default one a GPU, or one a
    CPU core."""
    json: Path | None = None
    """Also write the figures to this file."""
    entities: EntityConfig = field(default_factory=EntityConfig)
    """Settings of E-SAM in tables."""
    amg: AmgConfig = field(default_factory=AmgConfig)
    """Settings of AMG in tables and of the proposals."""

    def __post_init__(self) -> None:
        asked = (self.ablation, self.table is not None, self.clicks, self.proposals, self.labels is not None)
        if sum(asked) != 1:
            raise ConfigurationError(
                "give either --labels DIR or --ablation or --table N or --clicks or --proposals, one of them"
            )
        if self.makes_table and self.ground_truth not in ("coco_panoptic", "entityseg"):
            raise ConfigurationError("--ablation and --table measure AP^e; they need coco_panoptic or entityseg")
        if (self.ground_truth == "entityseg") != (self.annotations is not None):
            raise ConfigurationError("--ground-truth entityseg and --annotations FILE go together")
        asks_model = self.clicks or self.proposals
        if asks_model and self.ground_truth == "entityseg":
            raise ConfigurationError("--clicks and --proposals need coco_panoptic, bsds, voc or objects")
        if asks_model and self.model == "oracle":
            raise ConfigurationError(
                "--clicks and --proposals measure a model, which the oracle is not; use --ablation"
            )
        if self.labels is not None and self.ground_truth == "objects":
            raise ConfigurationError("--ground-truth objects has no measure of labels; it can be clicked with --clicks")
        if self.models and (asks_model or self.checkpoint is not None):
            raise ConfigurationError("--models is for tables of published weights; use --model")
        if not 0 <= self.min_area < 1:
            raise ConfigurationError(f"--min-area is a share of the picture in [0, 1); got {self.min_area}")
        if self.bootstrap < 0:
            raise ConfigurationError(f"--bootstrap must not be negative; got {self.bootstrap}")
        for option in ("max_dets", "limit", "workers"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise ConfigurationError(f"--{option.replace('_', '-')} must be at least 1; got {value}")

    @property
    def makes_table(self) -> bool:
        """Whether images are labelled to fill a table."""
        return self.ablation or self.table is not None
