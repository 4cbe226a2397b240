"""SAM 3's tracker without its memory, in any size."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import Sam3VisionConfig, Sam3VisionModel, Sam3ViTConfig

from everymask.backbone.sam.architecture import PromptArchitecture, randomise
from everymask.backbone.sam2.architecture import Sam2


@dataclass(frozen=True)
class Sam3Architecture(PromptArchitecture):
    """Sizes of a SAM 3. The defaults are the published ones.

    Attributes:
        encoder_width: channels of the image encoder.
        encoder_depth: its transformer blocks.
        encoder_heads: its attention heads.
        encoder_mlp_width: hidden channels of its MLPs.
        global_blocks: blocks that attend over the whole image; the others attend within windows.
        window_size: side of an attention window in tokens.
        pretrained_size: side in pixels of the images whose table of positions is tiled over the input.
    """

    image_size: int = 1008
    patch_size: int = 14
    encoder_width: int = 1024
    encoder_depth: int = 32
    encoder_heads: int = 16
    encoder_mlp_width: int = 4736
    global_blocks: tuple[int, ...] = (7, 15, 23, 31)
    window_size: int = 24
    pretrained_size: int = 336


def vision_config(architecture: Sam3Architecture) -> Sam3VisionConfig:
    """The image encoder's sizes as `transformers` wants them; of its pyramid the three levels that clicks need."""
    vit = Sam3ViTConfig(
        hidden_size=architecture.encoder_width,
        intermediate_size=architecture.encoder_mlp_width,
        num_hidden_layers=architecture.encoder_depth,
        num_attention_heads=architecture.encoder_heads,
        image_size=architecture.image_size,
        patch_size=architecture.patch_size,
        window_size=architecture.window_size,
        global_attn_indexes=list(architecture.global_blocks),
        pretrain_image_size=architecture.pretrained_size,
    )
    grid = architecture.grid_size
    return Sam3VisionConfig(
        backbone_config=vit,
        fpn_hidden_size=architecture.prompt_width,
        scale_factors=[4.0, 2.0, 1.0],
        backbone_feature_sizes=[[grid * scale, grid * scale] for scale in (4, 2, 1)],
    )


def build_sam3(architecture: Sam3Architecture, seed: int | None = None) -> Sam2:
    """A SAM 3 of these sizes with random weights, in evaluation mode; `seed` as in `build_sam`."""
    sam = Sam2(Sam3VisionModel(vision_config(architecture)), architecture)
    if seed is not None:
        randomise(sam, seed)
    return sam.eval().requires_grad_(False)
