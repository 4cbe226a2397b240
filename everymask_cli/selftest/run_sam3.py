"""The answers of SAM 3's tracker in `transformers` to a task. It has no automatic masks.

python -m everymask_cli.selftest.run_sam3 TASK.json
"""

from __future__ import annotations

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Sam3TrackerConfig, Sam3TrackerModel, Sam3TrackerProcessor
from transformers.models.sam3.image_processing_sam3 import Sam3ImageProcessor

from everymask.backbone.sam.architecture import randomise
from everymask.masks.rle import encode_masks
from everymask_cli.selftest.task import Answers, PictureAnswers, Task, click_points


@torch.no_grad()
def answer(task: Task) -> Answers:
    answers = Answers(f"transformers {version('transformers')}", "fp32")
    with answers.timed("load"):
        model = random_model(Path(task.checkpoint)) if task.makes_weights else _read(Path(task.checkpoint))
        model.to(task.device)
    processor = Sam3TrackerProcessor(image_processor=Sam3ImageProcessor())
    for name, image in task.load_pictures().items():
        size_hw = image.shape[:2]
        points = [[[point.tolist()] for point in click_points(size_hw)]]
        labels = [[[1] for _ in points[0]]]
        given = processor(images=image, input_points=points, input_labels=labels, return_tensors="pt").to(task.device)
        with answers.timed("embed"):
            features = model.get_image_embeddings(given["pixel_values"])
        with answers.timed("prompts"):
            found = model(
                image_embeddings=features, input_points=given["input_points"], input_labels=given["input_labels"]
            )
            masks = [
                encode_masks(torch.nn.functional.interpolate(logits[None], size_hw, mode="bilinear")[0] > 0)
                for logits in found.pred_masks[0]
            ]
        answers.pictures[name] = PictureAnswers(masks, found.iou_scores[0].tolist())
    return answers


def _read(checkpoint: Path) -> Any:
    """The tracker of a file as it is published, by the loading of `transformers`."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.safetensors").symlink_to(checkpoint.resolve())
        return Sam3TrackerModel.from_pretrained(folder, config=Sam3TrackerConfig()).eval()


def random_model(checkpoint: Path) -> Any:
    """A tracker with random weights, which are written as the published ones are named."""
    model = Sam3TrackerModel(Sam3TrackerConfig()).eval()
    randomise(model, seed=0)
    positions = model.shared_image_embedding.positional_embedding
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(positions)
    tensors = {published_name(name): tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, checkpoint)
    return model


def published_name(name: str) -> str:
    """The name of a tensor of `Sam3TrackerModel` in `facebook/sam3`."""
    if name.startswith("vision_encoder.backbone."):
        return f"detector_model.{name}"
    if name.startswith("vision_encoder.neck."):
        return f"tracker_neck.{name.removeprefix('vision_encoder.neck.')}"
    return f"tracker_model.{name}"


if __name__ == "__main__":
    asked = Task.read(sys.argv[1])
    answer(asked).write(asked.answers)
