"""Measures a model's answers to single clicks, or to a grid of clicks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from data_jobs.evaluation.config import ClickedPictures, ClicksConfig, ProposalsConfig
from data_jobs.evaluation.figures import Figures, table
from data_jobs.runtime.options import ModelOptions
from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.evaluation.click_accuracy import (
    backbone_answers,
    click_errors,
    click_figures,
    click_pictures,
    click_scores,
    felzenszwalb_answers,
    reliability,
)
from everymask.evaluation.ground_truth import (
    PictureReference,
    bsds_pictures,
    coco_instance_pictures,
    coco_panoptic_pictures,
    object_pictures,
    voc_pictures,
)
from everymask.evaluation.proposals import proposal_recall

_PICTURES: dict[str, Callable[[Path], list[PictureReference]]] = {
    "coco_panoptic": coco_panoptic_pictures,
    "coco_instances": coco_instance_pictures,
    "bsds": bsds_pictures,
    "objects": object_pictures,
}


def _backbone(model: ModelOptions) -> PromptableBackbone:
    return load_backbone(model.model, model.checkpoint, model.device, model.precision)


def measure_clicks(config: ClicksConfig) -> Figures:
    """The model beside a baseline without learning; ConfigurationError for unusable ground truth or model."""
    backbone = _backbone(config.model)
    pictures, min_area = _pictures(config.pictures), config.pictures.min_area
    scores = click_scores(backbone_answers(backbone), click_pictures(pictures, min_area))
    if config.details:
        print(table(reliability(scores)), table(click_errors(scores)), sep="\n\n", end="\n\n")
    baseline = click_scores(felzenszwalb_answers(), click_pictures(pictures, min_area))
    return {config.model.model: asdict(click_figures(scores)), "felzenszwalb": asdict(click_figures(baseline))}


def measure_proposals(config: ProposalsConfig) -> Figures:
    """The masks of a grid of clicks: all of them, and AMG's; ConfigurationError for unusable ground truth or model."""
    backbone = _backbone(config.model)
    pictures = click_pictures(_pictures(config.pictures), config.pictures.min_area)
    return {name: asdict(recall) for name, recall in proposal_recall(backbone, pictures, config.amg).items()}


def _pictures(chosen: ClickedPictures) -> list[PictureReference]:
    if chosen.ground_truth == "voc":
        return voc_pictures(chosen.path, chosen.split)[: chosen.limit]
    return _PICTURES[chosen.ground_truth](chosen.path)[: chosen.limit]
