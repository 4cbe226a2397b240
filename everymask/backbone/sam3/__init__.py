"""SAM 3's tracker on still images: clicks only. An encoder of its own, everything after it as in SAM 2."""

from __future__ import annotations

from functools import partial

import torch

from everymask.backbone.sam.backbone import SamBackbone
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.sam.loading import family_loader
from everymask.backbone.sam2 import make_backbone as make_sam2_backbone
from everymask.backbone.sam2.architecture import Sam2
from everymask.backbone.sam2.frame import SquashedFrame
from everymask.backbone.sam3.architecture import Sam3Architecture, build_sam3
from everymask.backbone.sam3.checkpoint import load_checkpoint

__all__ = ["Sam3Architecture", "build_sam3", "load", "make_backbone"]

_GREY = (0.5, 0.5, 0.5)


def make_backbone(
    sam: Sam2, *, name: str, weights_sha256: str, device: torch.device, config: SamConfig | None = None
) -> SamBackbone:
    """The backbone of a SAM 3, which is taken over, and of no use to the caller afterwards."""
    frame = partial(SquashedFrame, mean=_GREY, deviation=_GREY, rounded=True)
    return make_sam2_backbone(sam, name=name, weights_sha256=weights_sha256, device=device, config=config, frame=frame)


load = family_loader(load_checkpoint, make_backbone)
