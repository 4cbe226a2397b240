"""`nano`: the promptable segmenter that ships with everymask, on superpixel tokens."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from everymask.backbone.models import PrecisionSetting
from everymask.backbone.nano import efficientnet
from everymask.backbone.nano.backbone import NanoBackbone
from everymask.backbone.nano.checkpoint import NanoConfig, NanoModel, load_checkpoint, save_checkpoint
from everymask.backbone.weights import resolve_weights

__all__ = ["SHIPPED_WEIGHTS", "NanoBackbone", "NanoConfig", "NanoModel", "load", "load_nano", "save_checkpoint"]

SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "nano.safetensors"


def load_nano(
    checkpoint: str | Path | None, device: torch.device, precision: PrecisionSetting = "auto"
) -> NanoBackbone:
    """Load the built-in model, ready to embed.

    `checkpoint` is a file or http(s) URL made by `everymask train nano`; None means the shipped weights.

    Raises:
        CheckpointError: weights missing, corrupt, or of another architecture.
    """
    weights = resolve_weights(SHIPPED_WEIGHTS if checkpoint is None else checkpoint)
    both = hashlib.sha256(f"{weights.sha256} {efficientnet.SHA256}".encode()).hexdigest()
    return NanoBackbone(load_checkpoint(weights.path), weights_sha256=both, device=device, precision=precision)


def load(
    model: str, checkpoint: str | Path | None, device: torch.device, precision: PrecisionSetting = "auto"
) -> NanoBackbone:
    """`load_nano` with the arguments of every family's `load`."""
    return load_nano(checkpoint, device, precision)
