"""Describe a crop of each mask with an ImageNet encoder: EfficientNet-Lite2, from its pip package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from everymask.backbone.nano.efficientnet import SHA256, load_efficientnet
from everymask.backbone.nano.encoder import fast_bfloat16
from everymask.backbone.protocol import Canvas
from everymask.classes.describers.crops import crop_masks

DIM = 1280
"""Length of a description: the encoder's pooled features, before its classifier."""
IDENTITY = f"efficientnet_lite2 {SHA256[:12]}"
SIDE_PX = 224
MARGIN = 1.2
VEIL = 0.7
"""The object fills most of its crop, and its surroundings stay recognisable: measured best on true masks
(docs/decisions/classes.md)."""
_CROPS_PER_BATCH = 8
"""Few, so that their maps stay in a CPU core's cache."""


class ImageNetDescriber:
    """Describes masks on one device. Weights are frozen; calls share no state."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._encoder = load_efficientnet().to(device)
        # A description moves by less than a tenth of its length; emulated, bfloat16 would take thirty times as long.
        self._bfloat16 = device.type == "cuda" or fast_bfloat16(device)

    @torch.inference_mode()
    def describe(self, picture: torch.Tensor, canvas: Canvas, masks: torch.Tensor) -> torch.Tensor:
        """(h, w, 3) uint8 picture and (M, P) bool masks → (M, DIM) float32 on the CPU; zeros for empty masks."""
        descriptions = torch.zeros(len(masks), DIM)
        seen = masks.any(dim=1).nonzero().flatten()
        for index in torch.split(seen, _CROPS_PER_BATCH):
            crops = crop_masks(picture.to(masks.device), canvas, masks[index], SIDE_PX, MARGIN, VEIL)
            descriptions[index.cpu()] = self._encode(crops)
        return descriptions

    @torch.inference_mode()
    def describe_pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Whole (H, W, 3) uint8 RGB pictures → (N, DIM) float32 on the CPU."""
        described = [torch.zeros(0, DIM)]
        for picture in pictures:
            pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
            square = interpolate(pixels, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True, align_corners=False)
            described.append(self._encode(square))
        return torch.cat(described)

    def _encode(self, crops: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            described = self._encoder.pooled(crops.to(self._device))
        return described.float().cpu()


@cache
def imagenet_describer(device: torch.device) -> ImageNetDescriber:
    """This process's describer on a device; its weights are read once.

    Raises:
        CheckpointError: the package with its weights is missing, or holds others.
    """
    return ImageNetDescriber(device)
