"""How many masks are brought to the image's resolution at once."""

from __future__ import annotations

import torch

_PIXELS_AT_A_TIME = {"cpu": 2 << 20, "cuda": 64 << 20}
"""Logits in flight: few enough to stay in the cache on a CPU, enough to fill a GPU."""


def masks_at_a_time(size_hw: tuple[int, int], device: torch.device) -> int:
    """At least 1, and so few that memory does not grow with the number of masks."""
    height, width = size_hw
    return max(1, _PIXELS_AT_A_TIME.get(device.type, 64 << 20) // (height * width))
