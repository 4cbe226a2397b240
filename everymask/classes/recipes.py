"""The two recipes of U-SAM: the paper's method as published, and ours, which extends it and is the default."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from everymask.classes.config import ClassesConfig, MaskConfig

PAPER_MASKS: Mapping[str, Any] = MappingProxyType({"duplicate_iou_thresh": 1.0, "max_masks": None})
"""Every mask that SAM's grid gives (section 4)."""

PAPER_CLASSES: Mapping[str, Any] = MappingProxyType(
    {"score_thresh": 0.7, "score": "probability", "area_exponent": 0.0, "nms_containment_thresh": 1.0}
)
"""Threshold and NMS on the probability alone (section 3.6)."""

PAPER_TRAINING: Mapping[str, Any] = MappingProxyType(
    {
        "features": "token",
        "score_thresh": 0.7,
        "dropout": 0.0,
        "weight_decay": 0.0,
        "standardise_inputs": False,
        "min_area": 0.0,
        "masks_per_bag": None,
        "background_share": 0.0,
        "background_is_wrong": True,
        "uncertainty_loss": "negative_entropy",
        "presence_weight": 0.0,
        "frame_weight": 0.0,
        "object_weight": 0.0,
    }
)
"""MIL and uncertainty distillation with nothing added (section 3.5)."""


def below(path: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by their paths below a configuration: `masks`, `max_masks` → `masks.max_masks`."""
    return {f"{path}.{name}": value for name, value in values.items()}


def paper_classes(**given: Any) -> ClassesConfig:
    """The paper's labelling of classes, except for the given settings."""
    masks = MaskConfig(**PAPER_MASKS)
    return ClassesConfig(**{"masks": masks, **PAPER_CLASSES, **given})
