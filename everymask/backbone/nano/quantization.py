"""Convolution weights as int8 with one fp16 scale per output channel: half the bytes of fp16."""

from __future__ import annotations

import torch

SCALE_SUFFIX = ".scale"
"""Of the tensor that holds the scales of the tensor before it."""
_LARGEST = 127
_SMALLEST_SCALE = torch.finfo(torch.float16).tiny
"""Smaller ones, of channels that are all but zero, lose their precision in fp16."""


def quantize(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """A weight (C, ...) of any float type as two tensors to store: int8 (C, ...) `name`, and its fp16 (C,) scales.

    No value changes by more than half its channel's scale.
    """
    rows = weight.float().flatten(1)
    scale = (rows.abs().amax(dim=1) / _LARGEST).clamp_min(_SMALLEST_SCALE).half()
    steps = (rows / scale.float()[:, None]).round().clamp(-_LARGEST, _LARGEST)
    return {name: steps.to(torch.int8).view(weight.shape), name + SCALE_SUFFIX: scale}


def dequantize(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stored tensors as float32 ones: int8 times scale, the scales left out; integers of other kinds as they are.

    Raises:
        ValueError: an int8 tensor without one scale for each output channel, or scales of no int8 tensor.
    """
    pending = dict(tensors)
    widened = {}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = pending.pop(name + SCALE_SUFFIX, None)
            if scale is None or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{name} is int8 without one scale for each output channel")
            pending[name] = tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
    for name, tensor in pending.items():
        widened[name] = tensor.float() if tensor.is_floating_point() else tensor
    return widened
