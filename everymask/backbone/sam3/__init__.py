"""SAM 3 on still images: its tracker answers clicks, its detector names. An encoder of its own serves both."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from everymask.backbone.models import PrecisionSetting
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.sam3.architecture import Sam3, Sam3Architecture, build_sam3
from everymask.backbone.sam3.backbone import Sam3Backbone
from everymask.backbone.sam3.checkpoint import load_checkpoint, load_detector
from everymask.backbone.weights import model_weights

__all__ = ["Sam3", "Sam3Architecture", "Sam3Backbone", "build_sam3", "load"]


def load(
    model: str,
    checkpoint: str | Path | None,
    device: torch.device,
    precision: PrecisionSetting = "auto",
    config: SamConfig | None = None,
) -> Sam3Backbone:
    """Load a SAM 3, ready to embed, as `everymask.backbone.sam.loading.Load`; `load_concepts` reads its detector."""
    weights = model_weights(model, checkpoint)
    return Sam3Backbone(
        load_checkpoint(weights.path, model),
        name=model,
        weights_sha256=weights.sha256,
        device=device,
        config=config or SamConfig.asked(precision),
        read_detector=partial(load_detector, weights.path, model),
    )
