"""The official Segment Anything Model in any size, behind the backbone protocol."""

from __future__ import annotations

import torch
from segment_anything.modeling import Sam

from everymask.backbone.sam.architecture import OFFICIAL_ARCHITECTURES, SamArchitecture, build_sam
from everymask.backbone.sam.backbone import SamBackbone, SamParts
from everymask.backbone.sam.checkpoint import load_checkpoint
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.sam.image_encoder import ImageEncoder
from everymask.backbone.sam.loading import family_loader

__all__ = [
    "OFFICIAL_ARCHITECTURES",
    "SamArchitecture",
    "SamBackbone",
    "SamConfig",
    "build_sam",
    "load",
    "make_backbone",
]


def make_backbone(
    sam: Sam, *, name: str, weights_sha256: str, device: torch.device, config: SamConfig | None = None
) -> SamBackbone:
    """A SAM's backbone. It takes over `sam`, which the caller must not use afterwards."""
    config = config or SamConfig()
    patch_size = int(sam.image_encoder.patch_embed.proj.kernel_size[0])
    encoder = ImageEncoder(sam.image_encoder, config.encoder_dtype(device)).to(device)
    parts = SamParts.of_sam(sam, encoder, patch_size, device, config)
    return SamBackbone(parts, name=name, weights_sha256=weights_sha256, device=device, config=config)


load = family_loader(load_checkpoint, make_backbone)
