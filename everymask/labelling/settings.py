"""The settings that determine a mask, as stores record them and ids digest them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from everymask.backbone.models import PrecisionSetting
from everymask.labelling.config import LabelConfig

# Options that change time or memory, never a label.
_NEUTRAL_OPTIONS = frozenset({"points_per_batch", "names_per_batch", "lazy_gallery"})


def label_settings(
    config: LabelConfig,
    model: str,
    weights_sha256: str,
    head_sha256: str | None = None,
    class_names: tuple[str, ...] | None = None,
    head_score_thresh: float | None = None,
    precision: PrecisionSetting = "auto",
) -> dict[str, Any]:
    """Everything that changes a mask, as JSON values.

    Args:
        model: name of the backbone.
        weights_sha256: digest of its weights.
        head_sha256: digest of the class head's file; None for methods other than classes.
        class_names: the class head's classes.
        head_score_thresh: the class head's threshold, used if the options have none.
        precision: what was asked of the backbone, not what it used: machines of two kinds give a mask one id.
    """
    own = getattr(config, config.method, None)
    settings: dict[str, Any] = {
        "method": config.method,
        config.method: {} if own is None else _without_neutral(asdict(own)),
        "model": model,
        "weights_sha256": weights_sha256,
        "head_sha256": head_sha256,
        "class_names": class_names,
    }
    if config.method == "classes":
        if config.classes.score_thresh is None:
            settings["classes"]["score_thresh"] = head_score_thresh
        settings["classes"]["recipe"] = "default"  # a setting of its own once; it is in the ids of every mask
    # Left out where they change nothing, so that masks keep their ids.
    if config.min_region_area:
        settings["min_region_area"] = config.min_region_area
    if config.max_region_area is not None:
        settings["max_region_area"] = config.max_region_area
    if config.tiles > 1:
        settings["tiles"] = config.tiles
    settings |= _asked(precision)
    as_stored: dict[str, Any] = json.loads(json.dumps(settings))
    return as_stored


def click_settings(model: str, weights_sha256: str, precision: PrecisionSetting = "auto") -> dict[str, Any]:
    """The settings of clicked masks. The clicks are not among them: a mask is defined by what it covers."""
    return {"method": "points", "model": model, "weights_sha256": weights_sha256, **_asked(precision)}


def _asked(precision: PrecisionSetting) -> dict[str, Any]:
    return {} if precision == "auto" else {"precision": precision}


def _without_neutral(options: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_neutral(value) if isinstance(value, dict) else value
        for name, value in options.items()
        if name not in _NEUTRAL_OPTIONS
    }
