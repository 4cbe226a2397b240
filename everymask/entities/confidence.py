"""Which masks a backbone's own estimates recommend: thresholds that fit the way it estimates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConfidenceThresholds:
    """Least estimates of a mask worth proposing.

    Attributes:
        pred_iou: predicted IoU, in [0, 1].
        stability_score: in [0, 1].
    """

    pred_iou: float
    stability_score: float


_OFFICIAL_SAM = ConfidenceThresholds(pred_iou=0.88, stability_score=0.95)
_BY_BACKBONE = {"nano": ConfidenceThresholds(pred_iou=0.3, stability_score=0.3)}


def confidence_thresholds(
    backbone: str, pred_iou: float | None = None, stability_score: float | None = None
) -> ConfidenceThresholds:
    """The given thresholds, and where None is given what is recommended for the backbone of that registry name.

    For official models that is SAM's own default. A small model is right to be less sure of its masks, and an answer
    per superpixel has a coarser edge; with SAM's thresholds it would propose nothing. Values other than SAM's are our
    choice, measured on training images (docs/decisions/entities.md).
    """
    recommended = _BY_BACKBONE.get(backbone, _OFFICIAL_SAM)
    return ConfidenceThresholds(
        pred_iou=recommended.pred_iou if pred_iou is None else pred_iou,
        stability_score=recommended.stability_score if stability_score is None else stability_score,
    )
