"""The teacher of the encoder: an ImageNet-pretrained MobileNetV2 with its batch norms folded into the convolutions."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional

from everymask.errors import CheckpointError

_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, repeats, stride) of the inverted residuals (Sandler et al. 2018, table 2)."""
_HEAD, _CLASSIFIER = 51, 52


class TeacherFeatures(NamedTuple):
    """(B, C, H/s, W/s) maps at strides 8 (32 channels), 16 (96) and 32 (320)."""

    stride8: torch.Tensor
    stride16: torch.Tensor
    stride32: torch.Tensor


class Teacher:
    """Frozen; RGB in [0, 255] in, features and class logits out."""

    def __init__(self, path: Path) -> None:
        """Read `NN.weight` and `NN.bias` in network order.

        Raises:
            CheckpointError: the file is missing, unreadable or holds something else.
        """
        try:
            self._tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
            self(torch.zeros(1, 3, 32, 32))
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} is no folded MobileNetV2 (tensors 00.weight to 52.bias); give another file with --teacher, "
                "or none to train the encoder without distillation"
            ) from error

    def _conv(
        self, x: torch.Tensor, index: int, stride: int = 1, groups: int = 1, activate: bool = True
    ) -> torch.Tensor:
        weight, bias = self._tensors[f"{index:02d}.weight"], self._tensors[f"{index:02d}.bias"]
        if weight.shape[-1] == 3:
            # TensorFlow's "same" padding: a stride of 2 pads on the right and below only.
            x = functional.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        x = functional.conv2d(x, weight, bias, stride=stride, groups=groups)
        return x.clamp(0, 6) if activate else x

    def __call__(self, image: torch.Tensor) -> TeacherFeatures:
        """(B, 3, H, W), sides multiples of 32."""
        x = self._conv(image / 127.5 - 1, 0, stride=2)
        index, by_channels = 1, {}
        for expansion, channels, repeats, first_stride in _STAGES:
            for repeat in range(repeats):
                stride = first_stride if repeat == 0 else 1
                hidden = x
                if expansion > 1:
                    hidden = self._conv(hidden, index)
                    index += 1
                hidden = self._conv(hidden, index, stride, groups=hidden.shape[1])
                hidden = self._conv(hidden, index + 1, activate=False)
                index += 2
                x = x + hidden if stride == 1 and x.shape[1] == channels else hidden
            by_channels[channels] = x
        return TeacherFeatures(by_channels[32], by_channels[96], by_channels[320])

    def classify(self, stride32: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """(B, 1001) logits of (B, 320, h, w) features averaged where (B, 1, h, w) `present` is 1."""
        top = self._conv(stride32, _HEAD) * present
        pooled = top.sum(dim=(2, 3)) / present.sum(dim=(2, 3)).clamp_min(1)
        weight, bias = self._tensors[f"{_CLASSIFIER}.weight"], self._tensors[f"{_CLASSIFIER}.bias"]
        return functional.linear(pooled, weight.flatten(1), bias)
