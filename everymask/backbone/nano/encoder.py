"""The encoder of `nano`: a frozen EfficientNet-Lite2 and a small trained head for borders and groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from everymask.backbone.nano.efficientnet import CHANNELS, EfficientNetLite2

STRIDES = (4, 8, 16, 32)
"""Strides of the trunk's maps that describe cells, in order."""


@dataclass(frozen=True)
class EncoderConfig:
    stem_channels: int = 16
    """Channels of the head's stem, which reads the image at stride 2."""
    channels: int = 64
    """Channels of the top-down path."""
    group_channels: int = 24
    """Channels of the group space, where pixels of one segment lie close together."""


class EncoderOutput(NamedTuple):
    """The convolutions' output for (B, 3, H, W) images, sides multiples of 32.

    Attributes:
        features: the trunk's maps (B, C_s, H/s, W/s) at `STRIDES`.
        groups: (B, G, H/8, W/8); `same_segment` of two places' distance gives the probability that they share a
            segment.
        boundary: (B, 1, H/2, W/2) logits.
    """

    features: list[torch.Tensor]
    groups: torch.Tensor
    boundary: torch.Tensor


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 convolutions and products are faster: on CPUs with instructions for them."""
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def same_segment(squared_distance: torch.Tensor) -> torch.Tensor:
    """Logit that two places with this squared distance in group space share a segment."""
    return 4 - 4 * squared_distance


def _conv(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class BorderHead(nn.Module):
    """The image and the trunk's five maps → groups at stride 8 and borders at stride 2."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        mid, stem = config.channels, config.stem_channels
        self.stem = _conv(3, stem, stride=2)
        self.laterals = nn.ModuleList(_conv(c, mid, 1) for c in CHANNELS[1:])
        self.merges = nn.ModuleList(_conv(mid, mid) for _ in CHANNELS[1:])
        self.groups = nn.Sequential(_conv(mid, mid), nn.Conv2d(mid, config.group_channels, 1))
        self.reduce = _conv(mid, 24)
        self.fine = nn.Sequential(_conv(24 + stem + CHANNELS[0], 24), _conv(24, 16))
        self.boundary = nn.Conv2d(16, 1, 1)

    def forward(self, image: torch.Tensor, maps: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) in [0, 255] and maps at strides 2 to 32 → groups and boundary, see `EncoderOutput`."""
        stem = self.stem(image / 64 - 2)
        top = self.merges[3](self.laterals[3](maps[4]))
        groups = top
        for level in (2, 1, 0):
            if level == 0:
                groups = self.groups(top)
            lateral = self.laterals[level](maps[level + 1])
            top = self.merges[level](lateral + _enlarge(top, lateral))
        fine = torch.cat([_enlarge(self.reduce(top), stem), stem, maps[0]], dim=1)
        return groups, self.boundary(self.fine(fine))


def _enlarge(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class NanoEncoder(nn.Module):
    """Trunk and head. The trunk is frozen: always in evaluation mode, without gradients.

    Attributes:
        in_half: whether it computes in bfloat16; None where that is faster.
    """

    def __init__(self, config: EncoderConfig, trunk: EfficientNetLite2) -> None:
        super().__init__()
        self.config = config
        self.in_half: bool | None = None
        self.trunk = trunk
        self.head = BorderHead(config).to(memory_format=torch.channels_last)

    def forward(self, image: torch.Tensor) -> EncoderOutput:
        """(B, 3, H, W) RGB in [0, 255], sides multiples of 32."""
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), self.precision(image.device):
            maps = self.trunk(image)
        groups, boundary = self.head(image, maps)
        return EncoderOutput(maps[1:], groups, boundary)

    def precision(self, device: torch.device) -> torch.autocast:
        """The context in which the model computes."""
        enabled = fast_bfloat16(device) if self.in_half is None else self.in_half
        return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
