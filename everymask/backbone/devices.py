"""Which device a worker computes on, given what was reserved for it. Imports no model code."""

from __future__ import annotations


def device_for(device: str, gpus: float) -> str:
    """`auto` of a worker that has a GPU reserved is `cuda`: it must not compute on a CPU at the price of a GPU.

    Args:
        device: as `everymask.backbone.load_backbone` reads it.
        gpus: share of a GPU that the worker was given, 0 for none.
    """
    return "cuda" if device == "auto" and gpus else device
