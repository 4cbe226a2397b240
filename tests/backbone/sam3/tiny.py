"""A small SAM 3 with random weights, in the layout of `facebook/sam3`: tracker, detector and vocabulary."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPTextConfig,
    Sam3Config,
    Sam3TrackerVideoConfig,
    Sam3VideoConfig,
    Sam3VideoModel,
    Sam3VisionConfig,
)

from everymask.backbone.sam.architecture import randomise
from everymask.backbone.sam3 import Sam3Architecture
from everymask.backbone.sam3.architecture import vision_config
from tests.classes.tiny_tokenizer import tiny_tokenizer

TINY = Sam3Architecture(
    image_size=112,
    prompt_width=32,
    decoder_mlp_width=64,
    iou_head_width=32,
    encoder_width=32,
    encoder_depth=2,
    encoder_heads=2,
    encoder_mlp_width=64,
    global_blocks=(1,),
    window_size=4,
    pretrained_size=56,
)
QUERIES = 20


def tiny_config(vocabulary: int) -> Sam3VideoConfig:
    """Sizes of the whole model; `vocabulary` is the number of tokens."""
    width = TINY.prompt_width
    four_levels = {**vision_config(TINY).to_dict(), "scale_factors": [4.0, 2.0, 1.0, 0.5]}
    layers = {"hidden_size": width, "intermediate_size": 64, "num_layers": 2, "num_attention_heads": 8}
    detector = Sam3Config(
        vision_config=Sam3VisionConfig(**four_levels),
        text_config=CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=48,
            intermediate_size=192,
            projection_dim=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
            bos_token_id=0,
            eos_token_id=1,
            hidden_act="gelu",
        ),
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config={**layers, "num_queries": QUERIES},
        mask_decoder_config={"hidden_size": width, "num_attention_heads": 8},
    )
    tracker = Sam3TrackerVideoConfig(
        vision_config=vision_config(TINY),
        prompt_encoder_config={"hidden_size": width, "image_size": TINY.image_size, "patch_size": TINY.patch_size},
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": TINY.decoder_mlp_width,
            "iou_head_hidden_dim": TINY.iou_head_width,
        },
        image_size=TINY.image_size,
        memory_attention_hidden_size=width,
        memory_encoder_hidden_size=width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
    )
    return Sam3VideoConfig(detector_config=detector.to_dict(), tracker_config=tracker.to_dict())


def save_tiny_sam3(folder: Path, vocabulary: tuple[Any, int] | None = None, seed: int = 0) -> Path:
    """Write weights, sizes and a vocabulary, of letters by default; returns the file of the weights."""
    tokenizer, count = vocabulary or tiny_tokenizer(folder)
    tokenizer.save_pretrained(folder / "vocabulary")
    shutil.copy(folder / "vocabulary" / "tokenizer.json", folder / "tokenizer.json")
    config = tiny_config(count)
    config.save_pretrained(folder)
    with torch.no_grad():
        model: Any = Sam3VideoModel(config)
        randomise(model, seed)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter *= 0.7  # so that rounding does not grow from layer to layer
        # Random weights are sure of nothing; these are sure enough that names are there.
        model.detector_model.detr_decoder.presence_head.layer3.bias += 4
    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


if __name__ == "__main__":
    import sys

    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(save_tiny_sam3(target))
