"""Copies to a device that do not stall the host."""

from __future__ import annotations

from typing import Any

import torch


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
