"""Promptable backbones: the official SAM and the built-in `nano`, behind one protocol."""

from everymask.backbone.protocol import (
    MASKS_PER_PROMPT,
    Canvas,
    ImageEmbedding,
    PromptableBackbone,
    PromptMasks,
)
from everymask.backbone.registry import choose_device, load_backbone

__all__ = [
    "MASKS_PER_PROMPT",
    "Canvas",
    "ImageEmbedding",
    "PromptMasks",
    "PromptableBackbone",
    "choose_device",
    "load_backbone",
]
