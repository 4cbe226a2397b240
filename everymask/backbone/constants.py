"""Copies between host and device that stall neither more than they must."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def to_host(*tensors: torch.Tensor) -> list[NDArray[Any]]:
    """The tensors of one device as arrays of their shapes and types; a GPU is waited for once, not for each."""
    if tensors[0].device.type == "cpu":
        return [tensor.numpy() for tensor in tensors]
    together = torch.cat([tensor.contiguous().flatten().view(torch.uint8) for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() * tensor.element_size() for tensor in tensors])
    return [
        piece.view(_NUMPY[tensor.dtype]).reshape(tensor.shape)
        for piece, tensor in zip(np.split(together, ends[:-1]), tensors, strict=True)
    ]


_NUMPY = {
    torch.bool: np.bool_,
    torch.uint8: np.uint8,
    torch.int64: np.int64,
    torch.float32: np.float32,
    torch.float64: np.float64,
}


def pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor in host memory ready for `to(device, non_blocking=True)`: only copies from pinned memory leave the
    host free meanwhile."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


class DeviceConstant:
    """Numbers that every call needs on its device, copied to each device once."""

    def __init__(self, values: Any, dtype: torch.dtype = torch.float32) -> None:
        self._values = values
        self._dtype = dtype
        self._copies: dict[torch.device, torch.Tensor] = {}

    def __getitem__(self, device: torch.device) -> torch.Tensor:
        if device not in self._copies:
            # Made again, and not copied from another: a tensor made in inference mode is of no use outside.
            with torch.inference_mode(False):
                self._copies[device] = torch.tensor(self._values, dtype=self._dtype, device=device)
        return self._copies[device]


def prompts_at_a_time(device: torch.device) -> int:
    """How many prompts are asked at once where no number is set: the more, the less a GPU has to start and to wait for;
    on a CPU more than 64 only cost memory."""
    return 64 if device.type == "cpu" else 512
