"""A SAM of the official architecture, small enough to answer in milliseconds. Random weights, the same every time."""

from __future__ import annotations

from pathlib import Path

import torch

from everymask.backbone.sam import SamArchitecture, SamBackbone, SamConfig, build_sam, load

TINY = SamArchitecture(
    image_size=256,
    encoder_depth=2,
    encoder_width=32,
    encoder_heads=2,
    encoder_mlp_width=64,
    global_blocks=(1,),
    window_size=5,
    prompt_width=32,
    decoder_mlp_width=64,
    iou_head_width=32,
)


def write_tiny_checkpoint(folder: Path, seed: int = 0) -> Path:
    """A checkpoint of `TINY` in `folder`, as `load_backbone("vit_b", checkpoint)` takes it."""
    path = folder / f"tiny_sam_{seed}.pth"
    torch.save(build_sam(TINY, seed=seed).state_dict(), path)
    return path


def load_tiny_sam(folder: Path, config: SamConfig | None = None) -> SamBackbone:
    """The backbone of `write_tiny_checkpoint`, on the CPU."""
    return load("vit_b", write_tiny_checkpoint(folder), torch.device("cpu"), config=config)
