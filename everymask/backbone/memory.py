"""What a process holds of memory for its model."""

from __future__ import annotations

import os

import torch


def held_bytes(device: torch.device) -> int:
    """Memory that this process holds of a GPU; for a model on the CPU, its main memory."""
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else resident_bytes()


def resident_bytes() -> int:
    """Main memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm") as numbers:
            return int(numbers.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
