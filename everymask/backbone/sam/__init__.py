"""The official Segment Anything Model: any checkpoint of its architecture, behind the backbone protocol."""

from __future__ import annotations

from pathlib import Path

import torch

from everymask.backbone.sam.architecture import OFFICIAL_ARCHITECTURES, SamArchitecture, build_sam
from everymask.backbone.sam.backbone import SamBackbone
from everymask.backbone.sam.checkpoint import load_checkpoint
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.weights import model_weights

__all__ = ["OFFICIAL_ARCHITECTURES", "SamArchitecture", "SamBackbone", "SamConfig", "build_sam", "load"]


def load(
    model: str, checkpoint: str | Path | None, device: torch.device, config: SamConfig | None = None
) -> SamBackbone:
    """Load a SAM, ready to embed.

    Args:
        model: `vit_b`, `vit_l` or `vit_h`: the backbone's name, and its published weights without `checkpoint`.
        checkpoint: a file (`.pth`, `.safetensors`) or http(s) URL; its sizes are read off its tensors.
        config: precision and batching; None for the defaults.

    Raises:
        CheckpointError: weights missing, corrupt, or of another architecture.
    """
    weights = model_weights(model, checkpoint)
    sam = load_checkpoint(weights.path, model)
    return SamBackbone(sam, name=model, weights_sha256=weights.sha256, device=device, config=config)
