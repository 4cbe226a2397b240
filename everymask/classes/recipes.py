"""The two recipes of U-SAM: the paper's method as it stands, and ours, which is derived from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from everymask.classes.config import ClassesConfig, Recipe

PAPER_MASKS: Mapping[str, Any] = MappingProxyType({"duplicate_iou_thresh": 1.0, "max_masks": None})
"""Every mask that SAM's grid gives (section 4)."""

PAPER_CLASSES: Mapping[str, Any] = MappingProxyType(
    {"score": "probability", "area_exponent": 0.0, "nms_containment_thresh": 1.0}
)
"""Threshold and NMS on the probability alone (section 3.6)."""

PAPER_TRAINING: Mapping[str, Any] = MappingProxyType(
    {
        "features": "token",
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

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def follow(config: Config, recipe: Recipe, values: Mapping[str, Any]) -> Config:
    """A configuration dataclass with a recipe's values wherever it still has its defaults.

    What the user set to something else wins over the recipe.
    """
    if recipe == "default":
        return config
    defaults = {field.name: field.default for field in fields(config)}
    untouched = {name: value for name, value in values.items() if getattr(config, name) == defaults[name]}
    return replace(config, **untouched)


def follow_recipe(config: ClassesConfig) -> ClassesConfig:
    """The configuration with the values of its own `recipe`."""
    masks = follow(config.masks, config.recipe, PAPER_MASKS)
    return replace(follow(config, config.recipe, PAPER_CLASSES), masks=masks)
