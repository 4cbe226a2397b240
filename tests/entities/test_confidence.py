from __future__ import annotations

from everymask.backbone.models import ConfidenceThresholds
from everymask.entities.prompting import confidence_thresholds


def test_official_models_keep_sams_thresholds_and_given_values_win() -> None:
    assert confidence_thresholds("vit_b") == ConfidenceThresholds(0.88, 0.95)
    assert confidence_thresholds("vit_h", pred_iou=0.0) == ConfidenceThresholds(0.0, 0.95)
    assert confidence_thresholds("nano", stability_score=0.5).stability_score == 0.5


def test_the_built_in_model_is_not_held_to_sams() -> None:
    assert confidence_thresholds("nano").pred_iou < confidence_thresholds("vit_b").pred_iou
