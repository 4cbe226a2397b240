"""The answers of `segment_anything`, or of `mobile_sam`, which has the same interface, to a task.

python -m everymask_cli.selftest.run_sam TASK.json
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version

import torch

from everymask.backbone.models import MODELS, SAM_THRESHOLDS
from everymask.backbone.sam.architecture import randomise
from everymask_cli.selftest.predictors import answer_with
from everymask_cli.selftest.task import Answers, Task


@torch.no_grad()
def answer(task: Task) -> Answers:
    mobile = MODELS[task.model].family == "mobile_sam"
    code = import_module("mobile_sam" if mobile else "segment_anything")
    answers = Answers(f"{code.__name__} {version('mobilesam-mirror' if mobile else 'segment-anything')}", "fp32")
    build = code.sam_model_registry["vit_t" if mobile else task.model]
    with answers.timed("load"):
        if task.makes_weights:
            model = build().eval()
            randomise(model, seed=0)
            torch.save(model.state_dict(), task.checkpoint)
        else:
            model = build(checkpoint=task.checkpoint).eval()
        model.to(task.device)

    def make_generator(**settings: object) -> object:
        return code.SamAutomaticMaskGenerator(model, **settings)

    answer_with(code.SamPredictor(model), make_generator, SAM_THRESHOLDS, task, answers)
    return answers


if __name__ == "__main__":
    given = Task.read(sys.argv[1])
    answer(given).write(given.answers)
