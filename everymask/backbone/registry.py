"""Loads models by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import get_args

import torch

from everymask.backbone.models import PrecisionSetting, find_model
from everymask.backbone.protocol import PromptableBackbone
from everymask.errors import ConfigurationError


def choose_device(device: str) -> torch.device:
    """The device; `auto` is cuda if available, else cpu.

    Raises:
        ConfigurationError: torch does not know the device, or it is not available.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ConfigurationError(f"device {device!r} is unknown; use auto, cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            f"a GPU was asked for, but PyTorch {torch.__version__} sees none here; install NVIDIA's driver and "
            "container runtime (on GKE set LD_LIBRARY_PATH=/usr/local/nvidia/lib64), or choose device cpu"
        )
    return chosen


def load_backbone(
    model: str = "nano",
    checkpoint: str | Path | None = None,
    device: str = "auto",
    precision: PrecisionSetting = "auto",
) -> PromptableBackbone:
    """Load a backbone, ready to embed.

    Examples:
        >>> model = everymask.load_model("nano", device="cpu")
        >>> model.name
        'nano'
        >>> labels = everymask.label("photo.jpg", model)

    Args:
        model: one of `everymask.backbone.models.MODELS`.
        checkpoint: a file or http(s) URL with other weights of the same architecture; None for the published ones.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32` or `bf16`. Unless it is fp32, a GPU computes in TF32 what stays in fp32, in this whole
            process.

    Raises:
        ConfigurationError: unknown model, device or precision.
        CheckpointError: weights missing, corrupt, or of another architecture.
    """
    family = import_module(f"everymask.backbone.{find_model(model).family}")
    if precision not in get_args(PrecisionSetting):
        raise ConfigurationError(f"precision {precision!r} is unknown; use {', '.join(get_args(PrecisionSetting))}")
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    backbone: PromptableBackbone = family.load(model, checkpoint, chosen, precision)
    return backbone
