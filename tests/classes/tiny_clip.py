"""A CLIP model of real components, with random weights and a vocabulary of letters."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.classes.tiny_tokenizer import tiny_tokenizer


def save_tiny_clip(folder: Path) -> Path:
    """Write a CLIP model and its processor that load in a second."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer, num_tokens = tiny_tokenizer(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            text_config={
                **sizes,
                "vocab_size": num_tokens,
                "max_position_embeddings": 32,
                "bos_token_id": 0,
                "eos_token_id": 1,
            },
            vision_config={**sizes, "image_size": 32, "patch_size": 8},
            projection_dim=8,
        )
    )
    # Random weights tell nothing apart; a larger scale makes some masks look surely like one of the names.
    model.logit_scale.data.fill_(5.0)
    target = folder / "tiny-clip"
    model.save_pretrained(target)
    size = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size), tokenizer).save_pretrained(target)
    return target
