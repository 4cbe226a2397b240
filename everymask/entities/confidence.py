"""Which masks are worth proposing by a backbone's own estimates."""

from __future__ import annotations

from everymask.models import MODELS, SAM_THRESHOLDS, ConfidenceThresholds


def confidence_thresholds(
    backbone: str, pred_iou: float | None = None, stability_score: float | None = None
) -> ConfidenceThresholds:
    """The given thresholds; where None is given, what the table of models recommends for that backbone, and SAM's own
    defaults for a backbone that is not in it."""
    recommended = MODELS[backbone].thresholds if backbone in MODELS else SAM_THRESHOLDS
    return ConfidenceThresholds(
        pred_iou=recommended.pred_iou if pred_iou is None else pred_iou,
        stability_score=recommended.stability_score if stability_score is None else stability_score,
    )
