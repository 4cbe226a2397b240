"""The model as the driver describes it to its workers, and they to the driver. Imports no model code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from everymask.backbone.models import PrecisionSetting
from everymask.images.decoding import ImageLimits
from everymask.labelling.config import LabelConfig
from everymask.labelling.settings import label_settings


@dataclass(frozen=True)
class ModelSpec:
    """Everything a worker needs to label exactly as the others.

    Attributes:
        model: registry name of the backbone.
        checkpoint: file or URL of other weights, None for the published ones.
        head: file of the class head for method `classes`.
        device: as `everymask.backbone.load_backbone` reads it.
        config: method and options.
        limits: bounds on reading an image.
        threads: torch threads on the CPU.
        save_embeddings: where mask embeddings of method classes are kept, None for nowhere.
        expected: the run's record of the model; a worker that loads another one stops the run. None accepts any.
        precision: as `everymask.backbone.load_backbone` reads it.
    """

    model: str
    checkpoint: str | None
    head: str | None
    device: str
    config: LabelConfig
    limits: ImageLimits
    threads: int
    save_embeddings: str | None = None
    expected: ModelFacts | None = None
    precision: PrecisionSetting = "auto"


@dataclass(frozen=True)
class ModelFacts:
    """The recorded facts of a model.

    Attributes:
        model: name of the backbone.
        device: where it runs.
        weights_sha256: digest of the backbone's weights.
        head_sha256: digest of the class head's file; None for methods other than classes.
        class_names: the class head's classes.
        head_score_thresh: the class head's threshold, None without a head.
        precision: what was asked of the backbone.
        computes_in: the number format it uses; "" before it is loaded.
    """

    model: str
    device: str
    weights_sha256: str
    head_sha256: str | None
    class_names: tuple[str, ...] | None
    head_score_thresh: float | None = None
    precision: PrecisionSetting = "auto"
    computes_in: str = ""

    def settings(self, config: LabelConfig) -> dict[str, Any]:
        """Everything that changes a mask, as JSON values."""
        return label_settings(
            config,
            self.model,
            self.weights_sha256,
            self.head_sha256,
            self.class_names,
            self.head_score_thresh,
            self.precision,
        )
