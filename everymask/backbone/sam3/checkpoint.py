"""Checkpoint files of SAM 3 in the layout of `transformers`: rename the tensors, and build the model."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from transformers import Sam3VideoConfig

from everymask.backbone.models import MODELS, WeightSource
from everymask.backbone.sam3.architecture import Sam3, architecture_of, build_sam3
from everymask.backbone.sam3.detector import ConceptDetector, read_tokenizer
from everymask.backbone.tensors import check_family, read_tensors, refusing_misfits
from everymask.backbone.weights import resolve_weights
from everymask.errors import CheckpointError

VOCABULARY = "tokenizer.json"
_DETECTOR = "detector_model."
_REMEDY = "use model.safetensors of facebook/sam3"

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


def load_checkpoint(path: Path, model: str) -> Sam3:
    """Build the tracker of the SAM 3 that a file holds, in float32 on the CPU, in evaluation mode.

    Args:
        path: `model.safetensors` of `facebook/sam3`, or one of another size with its `config.json` beside it.

    Raises:
        CheckpointError: unreadable, or no SAM 3 in that layout.
    """
    tensors = read_tensors(path)
    check_family(tensors, model, str(path))
    with refusing_misfits(path, model, _REMEDY):
        settings = read_settings(path)
        sam = build_sam3(architecture_of(settings.detector_config, settings.tracker_config))
        sam.load_state_dict(with_our_names(tensors))
    return sam


def load_detector(path: Path, model: str) -> ConceptDetector:
    """The detector of concepts of the SAM 3 that a file holds, in float32 on the CPU.

    Its vocabulary is `tokenizer.json` beside the file, or that of `facebook/sam3`, fetched with the user's token.

    Raises:
        CheckpointError: the file holds no detector, or there is no vocabulary.
    """
    tokenizer = read_tokenizer(_vocabulary(path, model))
    tensors = {
        name.removeprefix(_DETECTOR): tensor.float()
        for name, tensor in read_tensors(path).items()
        if name.startswith(_DETECTOR) and not name.startswith(f"{_DETECTOR}vision_encoder.backbone.")
    }
    if not any(name.startswith("detr_decoder.") for name in tensors):
        raise CheckpointError(f"{path} has no detector of concepts, only SAM 3's tracker; {_REMEDY}")
    with refusing_misfits(path, model, _REMEDY):
        detector = ConceptDetector(read_settings(path).detector_config, tokenizer)
        detector.model.load_state_dict(tensors)
    return detector


def read_settings(path: Path) -> Any:
    """`Sam3VideoConfig` of a file of weights: `config.json` beside it, or the published sizes."""
    beside = path.parent / "config.json"
    return Sam3VideoConfig.from_pretrained(path.parent) if beside.is_file() else Sam3VideoConfig()


def _vocabulary(path: Path, model: str) -> Path:
    beside = path.with_name(VOCABULARY)
    if beside.is_file():
        return beside
    source = MODELS[model].weights
    assert source is not None
    if source.token_variable is not None and not os.environ.get(source.token_variable):
        raise CheckpointError(
            f"the names of {model} need its vocabulary: put {VOCABULARY} of facebook/sam3 beside {path}, or set "
            f"{source.token_variable}, and it is fetched"
        )
    url = source.url.rsplit("/", 1)[0]
    return resolve_weights(WeightSource(f"{url}/{VOCABULARY}", token_variable=source.token_variable)).path


def with_our_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a published SAM 3 that clicks need, in float32 under the names used here."""
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
