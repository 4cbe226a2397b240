"""Our answers to a task.

python -m everymask_cli.selftest.ours TASK.json
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, cast

import torch

from everymask import __version__
from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.entities.amg import segment_amg
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.entities.segmenter import segment_entities
from everymask.labelling.turns import TakesTurns
from everymask.masks.rle import encode_masks
from everymask.records import ImageLabels
from everymask_cli.selftest.task import Answers, PictureAnswers, Task, click_points


@torch.inference_mode()
def answer(task: Task) -> Answers:
    """Load the model and answer; raises as `load_backbone`."""
    answers = Answers(code=f"everymask {__version__}", precision="")
    with answers.timed("load"):
        backbone = load_backbone(task.model, task.checkpoint or None, task.device, task.precision)
    answers.weights_sha256 = backbone.weights_sha256
    answers.precision = backbone.precision
    thresholds: dict[str, Any] = dict(task.thresholds or {})
    config = AmgConfig(points_per_side=task.points_per_side, **thresholds)
    # The ratio of E-SAM's two grids is 1 to 2; the defaults on a GPU, and fewer clicks on a CPU.
    entities = EntityConfig(points_per_side=task.points_per_side, gallery_points_per_side=2 * task.points_per_side)
    answers.thresholds = dict(task.thresholds or {})
    for name, image in task.load_pictures().items():
        with answers.timed("embed"):
            (embedding,) = backbone.embed([image])
        with answers.timed("prompts"):
            points = torch.from_numpy(click_points(image.shape[:2])).float().to(backbone.device)
            found = backbone.decode_points(embedding, points)
            # A prompt at a time: three masks of a large photograph take hundreds of MB.
            masks = [encode_masks(backbone.full_resolution_logits(embedding, logits) > 0) for logits in found.logits]
        picture = PictureAnswers(masks, found.predicted_iou.double().cpu().numpy().round(6).tolist())
        with answers.timed("automatic masks"):
            picture.automatic = [mask.rle for mask in segment_amg(backbone, embedding, config).masks if mask.area]
        if task.finds_entities:
            labels = _entities(backbone, embedding, entities, answers)
            picture.entities, picture.coverage = len(labels.masks), labels.coverage
        answers.pictures[name] = picture
    return answers


def _entities(
    backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig, answers: Answers
) -> ImageLabels:
    """A picture's entities; the seconds of prompts and refinement are added to the answers'."""
    timed = TakesTurns(backbone, threading.Lock())
    began = time.perf_counter()
    labels = segment_entities(cast(PromptableBackbone, timed), embedding, config)
    prompts = timed.settle().prompts
    for stage, seconds in (("prompts", prompts), ("refinement", time.perf_counter() - began - prompts)):
        name = f"entities: {stage}"
        answers.seconds[name] = answers.seconds.get(name, 0.0) + seconds
    return labels


if __name__ == "__main__":
    given = Task.read(sys.argv[1])
    answer(given).write(given.answers)
