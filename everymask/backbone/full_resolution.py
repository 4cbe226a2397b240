"""How many masks to enlarge to the image's resolution at once."""

from __future__ import annotations

import torch

_PIXELS_AT_A_TIME = {"cpu": 2 << 20, "cuda": 64 << 20}
"""Logits at a time: few enough for a CPU's cache, enough to fill a GPU."""


def masks_at_a_time(size_hw: tuple[int, int], device: torch.device) -> int:
    """At least 1; memory does not grow with the total number of masks."""
    height, width = size_hw
    return max(1, _PIXELS_AT_A_TIME.get(device.type, 64 << 20) // (height * width))
