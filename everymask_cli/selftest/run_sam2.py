"""The answers of Meta's `sam2` to a task.

python -m everymask_cli.selftest.run_sam2 TASK.json
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import torch
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

from everymask.backbone.models import SAM2_THRESHOLDS
from everymask.backbone.sam.architecture import randomise
from everymask_cli.selftest.predictors import answer_with
from everymask_cli.selftest.task import Answers, Task

_LETTERS = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}


@torch.no_grad()
def answer(task: Task) -> Answers:
    answers = Answers(f"sam2 {version('sam2')}", "fp32")
    configuration = f"configs/sam2.1/sam2.1_hiera_{_LETTERS[task.model.removeprefix('sam2.1_')]}.yaml"
    with answers.timed("load"):
        checkpoint = None if task.makes_weights else task.checkpoint
        model = build_sam2(configuration, checkpoint, device="cpu", apply_postprocessing=False)
        if task.makes_weights:
            randomise(model, seed=0)
            torch.save({"model": model.state_dict()}, task.checkpoint)
        model.to(task.device)

    def make_generator(**settings: object) -> object:
        return SAM2AutomaticMaskGenerator(model, **settings)

    answer_with(SAM2ImagePredictor(model), make_generator, SAM2_THRESHOLDS, task, answers)
    return answers


if __name__ == "__main__":
    given = Task.read(sys.argv[1])
    answer(given).write(given.answers)
