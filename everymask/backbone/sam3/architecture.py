"""SAM 3 in any size: its tracker without the memory, and the settings of its detector of concepts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import Sam3Config, Sam3VisionConfig, Sam3VisionModel, Sam3ViTConfig

from everymask.backbone.sam.architecture import PromptArchitecture, randomise
from everymask.backbone.sam.backbone import Features
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


class Sam3(Sam2):
    """The parts of a SAM 3 that answer clicks.

    Attributes:
        keeps_trunk: whether features include `trunk`, the image encoder's own tokens, from which concepts are found.
    """

    def __init__(self, vision: nn.Module, architecture: PromptArchitecture) -> None:
        super().__init__(vision, architecture)
        self.keeps_trunk = False

    def encode(self, pixels: torch.Tensor) -> Features:
        """(B, 3, S, S) float32 network inputs → float32 features; the trunk's are (B, C, S/p, S/p)."""
        seen = self.vision(pixels)
        features = self.click_features(seen.fpn_hidden_states)
        if not self.keeps_trunk:
            return features
        rows, columns = features["image"].shape[-2:]
        trunk = seen.last_hidden_state.float().transpose(1, 2).unflatten(2, (rows, columns))
        return {**features, "trunk": trunk}


def vision_config(architecture: Sam3Architecture) -> Sam3VisionConfig:
    """The image encoder's sizes for `transformers`, with only the three levels of its pyramid that clicks need."""
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


def build_sam3(architecture: Sam3Architecture, seed: int | None = None) -> Sam3:
    """A SAM 3 of these sizes with random weights, in evaluation mode; `seed` as in `build_sam`."""
    sam = Sam3(Sam3VisionModel(vision_config(architecture)), architecture)
    if seed is not None:
        randomise(sam, seed)
    return sam.eval().requires_grad_(False)


def architecture_of(config: Sam3Config, tracker: object) -> Sam3Architecture:
    """The sizes of the tracker that belongs to a detector.

    Args:
        config: the detector's.
        tracker: `Sam3TrackerVideoConfig` or what has the same parts.
    """
    vit = config.vision_config.backbone_config
    prompts, decoder = tracker.prompt_encoder_config, tracker.mask_decoder_config  # type: ignore[attr-defined]
    return Sam3Architecture(
        image_size=vit.image_size,
        patch_size=vit.patch_size,
        prompt_width=prompts.hidden_size,
        decoder_depth=decoder.num_hidden_layers,
        decoder_mlp_width=decoder.mlp_dim,
        iou_head_depth=decoder.iou_head_depth,
        iou_head_width=decoder.iou_head_hidden_dim,
        mask_prompt_channels=prompts.mask_input_channels,
        encoder_width=vit.hidden_size,
        encoder_depth=vit.num_hidden_layers,
        encoder_heads=vit.num_attention_heads,
        encoder_mlp_width=vit.intermediate_size,
        global_blocks=tuple(vit.global_attn_indexes),
        window_size=vit.window_size,
        pretrained_size=vit.pretrain_image_size,
    )
