"""A SAM 2 small enough to answer in milliseconds. Random weights, the same every time."""

from __future__ import annotations

import torch

from everymask.backbone.sam.backbone import SamBackbone
from everymask.backbone.sam2 import Sam2Architecture, build_sam2, make_backbone

TINY = Sam2Architecture(
    image_size=128,
    encoder_width=16,
    stages=(1, 1, 2, 1),
    global_blocks=(3,),
    window_sizes=(8, 4, 4, 2),
    position_size=3,
    prompt_width=32,
    decoder_mlp_width=64,
    iou_head_width=32,
)


def tiny_sam2(seed: int = 0) -> SamBackbone:
    """The backbone of `TINY`, on the CPU."""
    return make_backbone(
        build_sam2(TINY, seed), name="sam2.1_tiny", weights_sha256=f"{seed:064d}", device=torch.device("cpu")
    )
