"""SAM 2's architecture without its memory, in any size: what a still image needs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import Sam2HieraDetConfig, Sam2VisionConfig, Sam2VisionModel

from everymask.backbone.sam.architecture import PromptArchitecture, assemble_sam, randomise
from everymask.backbone.sam.backbone import Features


@dataclass(frozen=True)
class Sam2Architecture(PromptArchitecture):
    """Sizes of a SAM 2. The defaults are those of `sam2.1_tiny`.

    Attributes:
        encoder_width: channels of the first stage; each later stage doubles them.
        encoder_heads: attention heads of the first stage; each later stage doubles them.
        stages: blocks of each stage.
        global_blocks: blocks that attend over the whole image; the others attend within windows.
        window_sizes: sides of the attention windows of each stage in its tokens.
        position_size: side of the table of positions that is spread over the image.
    """

    encoder_width: int = 96
    encoder_heads: int = 1
    stages: tuple[int, ...] = (1, 2, 7, 2)
    global_blocks: tuple[int, ...] = (5, 7, 9)
    window_sizes: tuple[int, ...] = (8, 4, 14, 7)
    position_size: int = 7


OFFICIAL_ARCHITECTURES: Mapping[str, Sam2Architecture] = {
    "sam2.1_tiny": Sam2Architecture(),
    "sam2.1_small": Sam2Architecture(stages=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
    "sam2.1_base_plus": Sam2Architecture(
        encoder_width=112, encoder_heads=2, stages=(2, 3, 16, 3), global_blocks=(12, 16, 20), position_size=14
    ),
    "sam2.1_large": Sam2Architecture(
        encoder_width=144,
        encoder_heads=2,
        stages=(2, 6, 36, 4),
        global_blocks=(23, 33, 43),
        window_sizes=(8, 4, 16, 8),
    ),
}


class Sam2(nn.Module):
    """The parts of a SAM 2 that answer clicks on one image. Its prompts and two-way transformer are those of SAM."""

    def __init__(self, vision: Any, architecture: PromptArchitecture) -> None:
        """
        Args:
            vision: images → a pyramid of at least three maps of features, `fpn_hidden_states`, finest first.
            architecture: sizes of the rest.
        """
        super().__init__()
        width = architecture.prompt_width
        self.vision = vision
        sam = assemble_sam(nn.Identity(), architecture)
        self.prompt_encoder = sam.prompt_encoder
        self.mask_decoder = sam.mask_decoder
        self.object_score_token = nn.Embedding(1, width)
        self.skip_fine = nn.Conv2d(width, width // 8, 1)
        self.skip_coarse = nn.Conv2d(width, width // 4, 1)
        self.no_memory = nn.Parameter(torch.zeros(1, 1, width))

    def encode(self, pixels: torch.Tensor) -> Features:
        """(B, 3, S, S) float32 network inputs → float32 features."""
        return self.click_features(self.vision(pixels).fpn_hidden_states)

    def click_features(self, pyramid: Sequence[torch.Tensor]) -> Features:
        """Maps of an image, finest first → what clicks are answered from."""
        fine, coarse, image = pyramid[:3]
        return {
            "image": image.float() + self.no_memory.view(1, -1, 1, 1),
            "skip_coarse": self.skip_coarse(coarse.float()),
            "skip_fine": self.skip_fine(fine.float()),
        }


def vision_config(architecture: Sam2Architecture) -> Sam2VisionConfig:
    """The image encoder's sizes as `transformers` wants them."""
    widths = [architecture.encoder_width << stage for stage in range(len(architecture.stages))]
    side = architecture.image_size // 4
    hiera = Sam2HieraDetConfig(
        hidden_size=architecture.encoder_width,
        num_attention_heads=architecture.encoder_heads,
        image_size=[architecture.image_size, architecture.image_size],
        window_positional_embedding_background_size=[architecture.position_size, architecture.position_size],
        blocks_per_stage=list(architecture.stages),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[architecture.encoder_heads << stage for stage in range(len(widths))],
        window_size_per_stage=list(architecture.window_sizes),
        global_attention_blocks=list(architecture.global_blocks),
    )
    return Sam2VisionConfig(
        backbone_config=hiera,
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[side >> level, side >> level] for level in range(3)],
        fpn_hidden_size=architecture.prompt_width,
    )


def build_sam2(architecture: Sam2Architecture, seed: int | None = None) -> Sam2:
    """A SAM 2 of these sizes with random weights, in evaluation mode; `seed` as in `build_sam`."""
    sam = Sam2(Sam2VisionModel(vision_config(architecture)), architecture)
    if seed is not None:
        randomise(sam, seed)
    return sam.eval().requires_grad_(False)
