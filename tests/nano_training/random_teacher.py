"""A teacher of the right shapes that never learned anything: tests need no download."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from everymask.nano_training.teacher import _CLASSIFIER, _HEAD, _STAGES


def write_random_teacher(path: Path) -> Path:
    """A folded MobileNetV2 with random weights of He's scale."""
    generator = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(32, 3, 3, 3)]
    width = 32
    for expansion, channels, repeats, _ in _STAGES:
        for _ in range(repeats):
            hidden = width * expansion
            shapes += [(hidden, width, 1, 1)] if expansion > 1 else []
            shapes += [(hidden, 1, 3, 3), (channels, hidden, 1, 1)]
            width = channels
    shapes += [(1280, width, 1, 1), (1001, 1280, 1, 1)]
    assert len(shapes) == _CLASSIFIER + 1 == _HEAD + 2
    tensors = {}
    for index, shape in enumerate(shapes):
        fan_in = shape[1] * shape[2] * shape[3]
        tensors[f"{index:02d}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        tensors[f"{index:02d}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    save_file(tensors, path)
    return path
