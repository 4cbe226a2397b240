"""What the publishers' predictors and mask generators have in common: SAM's interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from everymask.backbone.models import ConfidenceThresholds
from everymask.masks.rle import encode_masks
from everymask_cli.selftest.task import Answers, PictureAnswers, Task, click_points

_POINTS_PER_BATCH = 16


@torch.no_grad()
def answer_with(
    predictor: Any, make_generator: Callable[..., Any], defaults: ConfidenceThresholds, task: Task, answers: Answers
) -> None:
    """Fill in a publisher's answers to clicks, then its automatic masks.

    Args:
        predictor: of a loaded model.
        make_generator: makes its generator of automatic masks from settings.
        defaults: of that generator.
        task: what is asked.
        answers: filled in.
    """
    images = task.load_pictures()
    for name, image in images.items():
        with answers.timed("embed"):
            predictor.set_image(image)
        masks, estimates = [], []
        with answers.timed("prompts"):
            for point in click_points(image.shape[:2]):
                found, iou, _ = predictor.predict(point[None], np.ones(1))
                masks.append(encode_masks(np.asarray(found) > 0))
                estimates.append(iou.tolist())
        answers.pictures[name] = PictureAnswers(masks, estimates)
    answers.thresholds = dict(_of_random_weights(answers) if task.makes_weights else _published(defaults))
    generator = make_generator(
        points_per_side=task.points_per_side,
        points_per_batch=_POINTS_PER_BATCH,
        output_mode="coco_rle",
        **answers.thresholds,
    )
    for name, image in images.items():
        with answers.timed("automatic masks"):
            found = [record["segmentation"] for record in generator.generate(image)]
        answers.pictures[name].automatic = [rle for rle in found if coco_mask.area(rle)]


def _published(defaults: ConfidenceThresholds) -> Mapping[str, float]:
    return {
        "pred_iou_thresh": defaults.pred_iou,
        "stability_score_thresh": defaults.stability_score,
        "box_nms_thresh": 0.7,
    }


def _of_random_weights(answers: Answers) -> Mapping[str, float]:
    """Settings with which some of the masks of random weights pass."""
    estimates = [iou for picture in answers.pictures.values() for prompt in picture.predicted_iou for iou in prompt]
    return {
        "pred_iou_thresh": float(np.quantile(estimates, 0.4)),
        "stability_score_thresh": 0.5,
        "box_nms_thresh": 1.0,  # the boxes of random masks all span the image
    }
