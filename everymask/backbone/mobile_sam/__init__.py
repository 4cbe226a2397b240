"""MobileSAM (Zhang et al. 2023): a TinyViT image encoder; everything after it is SAM's."""

from __future__ import annotations

import torch
from segment_anything.modeling import Sam

from everymask.backbone.mobile_sam.checkpoint import load_checkpoint
from everymask.backbone.sam.backbone import SamBackbone, SamParts
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.sam.loading import family_loader

__all__ = ["load", "make_backbone"]

_PATCH_SIZE = 16


def make_backbone(
    sam: Sam, *, name: str, weights_sha256: str, device: torch.device, config: SamConfig | None = None
) -> SamBackbone:
    """A MobileSAM's backbone. It takes over `sam`, which the caller must not use afterwards."""
    config = config or SamConfig()
    encoder = sam.image_encoder.prepare_to_run(config.encoder_dtype(device)).to(device)
    parts = SamParts.of_sam(sam, encoder, _PATCH_SIZE, device, config)
    return SamBackbone(parts, name=name, weights_sha256=weights_sha256, device=device, config=config)


load = family_loader(load_checkpoint, make_backbone)
