"""The official Segment Anything Model: any checkpoint of its architecture, behind the backbone protocol."""

from __future__ import annotations

from pathlib import Path

import torch
from segment_anything.modeling import Sam

from everymask.backbone.sam.architecture import OFFICIAL_ARCHITECTURES, SamArchitecture, build_sam
from everymask.backbone.sam.backbone import SamBackbone, SamParts
from everymask.backbone.sam.checkpoint import load_checkpoint
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.sam.image_encoder import ImageEncoder
from everymask.backbone.weights import model_weights

__all__ = [
    "OFFICIAL_ARCHITECTURES",
    "SamArchitecture",
    "SamBackbone",
    "SamConfig",
    "build_sam",
    "load",
    "make_backbone",
]


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
    return make_backbone(sam, name=model, weights_sha256=weights.sha256, device=device, config=config)


def make_backbone(
    sam: Sam, *, name: str, weights_sha256: str, device: torch.device, config: SamConfig | None = None
) -> SamBackbone:
    """The backbone of a SAM, which is taken over, and of no use to the caller afterwards."""
    config = config or SamConfig()
    patch_size = int(sam.image_encoder.patch_embed.proj.kernel_size[0])
    encoder = ImageEncoder(sam.image_encoder, config.encoder_dtype(device)).to(device)
    parts = SamParts.of_sam(sam, encoder, patch_size, device, config)
    return SamBackbone(parts, name=name, weights_sha256=weights_sha256, device=device, config=config)
