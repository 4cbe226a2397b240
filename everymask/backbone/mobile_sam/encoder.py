"""MobileSAM's image encoder: timm's TinyViT with one stride removed, and SAM's neck."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import ConvNorm, TinyVit
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class MobileEncoder(nn.Module):
    """TinyViT-5M and a neck: (B, 3, 1024, 1024) → (B, C, 64, 64), with C = `prompt_width`."""

    def __init__(self, prompt_width: int) -> None:
        super().__init__()
        vit: Any = TinyVit(
            num_classes=0,
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
        )
        # For classification the last stage halves the grid once more; MobileSAM keeps SAM's 64 x 64 tokens.
        vit.stages[-1].downsample.conv2.conv.stride = (1, 1)
        self.trunk = nn.Sequential(OrderedDict(patch_embed=vit.patch_embed, stages=vit.stages))
        self.neck = nn.Sequential(
            nn.Conv2d(vit.num_features, prompt_width, 1, bias=False),
            LayerNorm2d(prompt_width),
            nn.Conv2d(prompt_width, prompt_width, 3, padding=1, bias=False),
            LayerNorm2d(prompt_width),
        )

    def prepare_to_run(self, dtype: torch.dtype) -> MobileEncoder:
        """Fold batch norms into convolutions and convert the trunk to `dtype`; weights cannot be loaded afterwards."""
        for layer in list(self.trunk.modules()):
            if isinstance(layer, ConvNorm):
                layer.conv = fuse_conv_bn_eval(layer.conv.eval(), layer.bn.eval())
                layer.bn = nn.Identity()  # type: ignore[assignment]  # timm's hint is narrower than its use
        self.trunk.to(dtype)
        return self.requires_grad_(False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) float32 network inputs → (B, C, S/16, S/16) float32 image embeddings."""
        x = pixels.to(next(self.trunk.parameters()).dtype)
        embedding: torch.Tensor = self.neck(self.trunk(x).float())
        return embedding
