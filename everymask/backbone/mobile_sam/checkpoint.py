"""MobileSAM checkpoints: check, rename tensors as in timm's TinyViT, build the model."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from segment_anything.modeling import Sam

from everymask.backbone.mobile_sam.encoder import MobileEncoder
from everymask.backbone.sam.architecture import PromptArchitecture, assemble_sam
from everymask.backbone.tensors import check_family, read_tensors, refusing_misfits

_UNUSED = re.compile(r"image_encoder\.(head|norm_head)\.|.*\.attention_bias_idxs$")
_RENAMED = (
    (r"^image_encoder\.(?!neck)", "image_encoder.trunk."),
    (r"\.patch_embed\.seq\.0\.", ".patch_embed.conv1."),
    (r"\.patch_embed\.seq\.2\.", ".patch_embed.conv2."),
    (r"\.c\.weight$", ".conv.weight"),
    (r"\.layers\.(\d+)\.blocks\.", r".stages.\1.blocks."),
)
_DOWNSAMPLE = re.compile(r"\.layers\.(\d+)\.downsample\.")
"""MobileSAM's position: the end of a stage; timm's: the start of the next."""


def build_mobile_sam() -> Sam:
    """A MobileSAM with random weights in evaluation mode; its encoder's tensors have timm's names."""
    architecture = PromptArchitecture()
    sam = assemble_sam(MobileEncoder(architecture.prompt_width), architecture)
    return sam.eval().requires_grad_(False)


def load_checkpoint(path: Path, model: str) -> Sam:
    """A file's MobileSAM, float32 on the CPU, in evaluation mode; CheckpointError if unreadable or another model."""
    tensors = read_tensors(path)
    check_family(tensors, model, str(path))
    sam = build_mobile_sam()
    with refusing_misfits(path, "MobileSAM", "use the published checkpoint, or one trained from it"):
        sam.load_state_dict(with_timm_names(tensors))
    return sam


def with_timm_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A published MobileSAM's tensors in float32 under the names used here, without its classifier."""
    return {_timm_name(name): tensor.float() for name, tensor in tensors.items() if not _UNUSED.match(name)}


def _timm_name(name: str) -> str:
    if not name.startswith("image_encoder."):
        return name
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return _DOWNSAMPLE.sub(lambda found: f".stages.{int(found[1]) + 1}.downsample.", name)
