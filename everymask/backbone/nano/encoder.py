"""The convolutional encoder of `nano`: a small residual network with a boundary head, distilled from a larger one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

STRIDES = (4, 8, 16, 32)
"""Of the four feature maps, in order."""


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the encoder."""

    stem_channels: int = 24
    """Channels at stride 2."""
    channels: tuple[int, int, int, int] = (48, 96, 144, 208)
    """Channels at strides 4, 8, 16 and 32."""
    blocks: tuple[int, int, int, int] = (1, 2, 2, 1)
    """Residual blocks after each stride's downsampling convolution."""
    boundary_channels: int = 48
    """Channels of the top-down path that ends in the boundary map."""


class EncoderOutput(NamedTuple):
    """`features`: four (B, C_s, H/s, W/s) maps, sizes rounded up; `boundary`: (B, 1, H/2, W/2) logits."""

    features: list[torch.Tensor]
    boundary: torch.Tensor


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _conv(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.second(self.first(x)))


class ConvEncoder(nn.Module):
    """(B, 3, H, W) RGB in [0, 255] → features at strides 4 to 32 and a boundary map at stride 2."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _conv(3, config.stem_channels, stride=2)
        widths = (config.stem_channels, *config.channels)
        self.stages = nn.ModuleList(
            nn.Sequential(_conv(widths[i], widths[i + 1], stride=2), *[ResidualBlock(widths[i + 1]) for _ in range(n)])
            for i, n in enumerate(config.blocks)
        )
        mid = config.boundary_channels
        self.laterals = nn.ModuleList(nn.Conv2d(c, mid, 1) for c in config.channels)
        self.merge = _conv(mid, mid)
        self.reduce = _conv(mid, 16)
        self.fine = _conv(16 + config.stem_channels, 16)
        self.boundary = nn.Conv2d(16, 1, 1)

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The four feature maps alone, without the work that the boundary takes."""
        return self._features(self._stem(image))

    def forward(self, image: torch.Tensor) -> EncoderOutput:
        stem = self._stem(image)
        features = self._features(stem)
        top = self.laterals[3](features[3])
        for level in (2, 1, 0):
            lateral = self.laterals[level](features[level])
            top = lateral + functional.interpolate(top, size=lateral.shape[-2:], mode="bilinear", align_corners=False)
        top = self.reduce(self.merge(functional.relu(top)))
        top = functional.interpolate(top, size=stem.shape[-2:], mode="bilinear", align_corners=False)
        return EncoderOutput(features, self.boundary(self.fine(torch.cat([top, stem], dim=1))))

    def _stem(self, image: torch.Tensor) -> torch.Tensor:
        stem: torch.Tensor = self.stem(image / 64 - 2)
        return stem

    def _features(self, stem: torch.Tensor) -> list[torch.Tensor]:
        features = []
        x = stem
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
