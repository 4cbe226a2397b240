"""Chooses a worker's device. Imports no model code."""

from __future__ import annotations


def device_for(device: str, gpus: float) -> str:
    """The device of a worker that was given a share `gpus` of a GPU (0 for none).

    `auto` means `cuda` for a worker with a GPU: it must not hold a GPU and compute on a CPU.
    """
    return "cuda" if device == "auto" and gpus else device
