"""Checkpoint files of SAM 2.1: check, give the tensors the names they have here, build the model."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from everymask.backbone.sam2.architecture import OFFICIAL_ARCHITECTURES, Sam2, build_sam2
from everymask.backbone.tensors import check_family, read_tensors, refusing_misfits
from everymask.errors import CheckpointError

_VIDEO = re.compile(
    r"(memory_|mask_downsample\.|maskmem_|obj_ptr_|no_mem_pos_enc$|no_obj_|sam_mask_decoder\.pred_obj_score_head\.)"
)
"""Tensors that only following an object through a video needs."""
_RENAMED = (
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.obj_score_token\.", "object_score_token."),
    (r"^sam_mask_decoder\.conv_s0\.", "skip_fine."),
    (r"^sam_mask_decoder\.conv_s1\.", "skip_coarse."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.0\.", r"\1.lin1."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.1\.", r"\1.lin2."),
    (r"^no_mem_embed$", "no_memory"),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision.neck.convs.\1."),
    (r"^image_encoder\.trunk\.", "vision.backbone."),
    (r"^(vision\.backbone\.patch_embed)\.proj\.", r"\1.projection."),
    (r"^(vision\.backbone\.blocks\.\d+)\.norm([12])\.", r"\1.layer_norm\2."),
    (r"^(vision\.backbone\.blocks\.\d+\.mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"^(vision\.backbone\.blocks\.\d+\.mlp)\.layers\.1\.", r"\1.proj_out."),
)


def load_checkpoint(path: Path, model: str) -> Sam2:
    """Build the SAM 2 that a file holds, in float32 on the CPU, in evaluation mode.

    Args:
        path: as published, or as `read_tensors` takes it.
        model: which of `OFFICIAL_ARCHITECTURES` it is: heads, windows and global blocks show in no tensor.

    Raises:
        CheckpointError: unreadable, no SAM 2, or of another size than `model`.
    """
    tensors = read_tensors(path)
    check_family(tensors, model, str(path))
    for official in OFFICIAL_ARCHITECTURES:
        if official != model and _size(tensors) == _official_size(official):
            raise CheckpointError(f"{path} holds {official}, but {model} was asked for; use --model {official}")
    sam = build_sam2(OFFICIAL_ARCHITECTURES[model])
    with refusing_misfits(path, model, "use the published checkpoint, or one trained from it"):
        sam.load_state_dict(with_our_names(tensors))
    return sam


def with_our_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of a published SAM 2 in float32 under the names they have here, without those for video."""
    return {_our_name(name): tensor.float() for name, tensor in tensors.items() if not _VIDEO.match(name)}


def _our_name(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _size(tensors: dict[str, torch.Tensor]) -> tuple[int, int]:
    """Channels and number of blocks of the encoder."""
    blocks = {name.split(".")[3] for name in tensors if name.startswith("image_encoder.trunk.blocks.")}
    return int(tensors["image_encoder.trunk.patch_embed.proj.weight"].shape[0]), len(blocks)


def _official_size(model: str) -> tuple[int, int]:
    architecture = OFFICIAL_ARCHITECTURES[model]
    return architecture.encoder_width, sum(architecture.stages)
