"""Reads checkpoint tensors without running code from the file, and identifies their family."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from everymask.backbone.models import MODELS
from everymask.errors import CheckpointError


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by name, on the CPU.

    `path` is `.safetensors`, or a PyTorch state dictionary with any other ending, by itself or under the key `model`.

    Raises:
        CheckpointError: unreadable, or something other than tensors.
    """
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True, mmap=False)
        )
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint (truncated, corrupt or not weights); "
            "delete it and fetch it again, or name another file with --checkpoint"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise CheckpointError(f"{path} holds something other than a dictionary of tensors; save model.state_dict()")
    return content


@contextmanager
def refusing_misfits(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Turn errors of building and filling a network into CheckpointError."""
    try:
        yield
    except (RuntimeError, AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path} does not fit {what} ({reason}); {remedy}") from error


def check_family(tensors: dict[str, torch.Tensor], model: str, source: str) -> None:
    """Refuse weights of another family than `model`'s; `source` names the file.

    Raises:
        CheckpointError: naming the models that the weights could be for, if any.
    """
    mark = MODELS[model].mark
    if mark in tensors:
        return
    others = [name for name, row in MODELS.items() if row.mark in tensors]
    remedy = f"it looks like {' or '.join(others)}" if others else "no model here has such weights"
    raise CheckpointError(f"{source} does not hold weights of {model} (no tensor {mark}); {remedy}")
