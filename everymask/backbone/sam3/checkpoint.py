"""Checkpoint files of SAM 3 in the layout of `transformers`: name the tensors as they are here, build the model."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from everymask.backbone.sam2.architecture import Sam2
from everymask.backbone.sam3.architecture import Sam3Architecture, build_sam3
from everymask.backbone.tensors import check_family, read_tensors, refusing_misfits

_NEEDED = re.compile(
    r"detector_model\.vision_encoder\.backbone\."
    r"|tracker_neck\.fpn_layers\.[012]\."
    r"|tracker_model\.(shared_image_embedding|prompt_encoder\.(?!shared_embedding)|no_memory_embedding$)"
    r"|tracker_model\.mask_decoder\.(?!pred_obj_score_head)"
)
"""The image encoder and the tracker's answers to clicks; the detector of concepts and the memory are left out."""
_RENAMED = (
    (r"^detector_model\.vision_encoder\.", "vision."),
    (r"^tracker_neck\.", "vision.neck."),
    (r"^tracker_model\.", ""),
    (r"^no_memory_embedding$", "no_memory"),
    (r"^shared_image_embedding\.positional_embedding$", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
    (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
    (r"^mask_decoder\.obj_score_token\.", "object_score_token."),
    (r"^mask_decoder\.conv_s0\.", "skip_fine."),
    (r"^mask_decoder\.conv_s1\.", "skip_coarse."),
    (r"^(mask_decoder\..*)\.o_proj\.", r"\1.out_proj."),
    (r"^(mask_decoder\.transformer\.layers\.\d+)\.layer_norm(\d)\.", r"\1.norm\2."),
    (r"^(mask_decoder\.transformer)\.layer_norm_final_attn\.", r"\1.norm_final_attn."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.proj_in\.", r"\1.lin1."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.proj_out\.", r"\1.lin2."),
    (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0\.", r"\1.layers.1."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.proj_in\.", r"\1.layers.0."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.proj_out\.", r"\1.layers.2."),
)


def load_checkpoint(path: Path, model: str) -> Sam2:
    """Build the tracker of the SAM 3 that a file holds, in float32 on the CPU, in evaluation mode.

    Args:
        path: `model.safetensors` of `facebook/sam3`.

    Raises:
        CheckpointError: unreadable, or no SAM 3 in that layout.
    """
    tensors = read_tensors(path)
    check_family(tensors, model, str(path))
    sam = build_sam3(Sam3Architecture())
    with refusing_misfits(path, model, "use model.safetensors of facebook/sam3"):
        sam.load_state_dict(with_our_names(tensors))
    return sam


def with_our_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What clicks need of a published SAM 3, in float32 under the names it has here."""
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if not _NEEDED.match(name):
            continue
        if name == "tracker_model.prompt_encoder.point_embed.weight":
            for kind, row in enumerate(tensor.float()):
                renamed[f"prompt_encoder.point_embeddings.{kind}.weight"] = row[None]
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor.float()
    return renamed
