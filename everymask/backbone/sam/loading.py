"""How a model of any of SAM's families is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from everymask.backbone.sam.backbone import SamBackbone
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.weights import model_weights

Network = TypeVar("Network")


class Load(Protocol):
    """What the table of models calls."""

    def __call__(
        self, model: str, checkpoint: str | Path | None, device: torch.device, config: SamConfig | None = None
    ) -> SamBackbone:
        """Load a model of the family, ready to embed.

        Args:
            model: its name, and its published weights without `checkpoint`.
            checkpoint: a file or http(s) URL.
            config: precision and batching; None for the defaults.

        Raises:
            CheckpointError: weights missing, corrupt, or of another architecture.
        """


def family_loader(read: Callable[[Path, str], Network], make: Callable[..., SamBackbone]) -> Load:
    """`load` of a family.

    Args:
        read: the network that a file holds, of a model with this name.
        make: its backbone, as `everymask.backbone.sam.make_backbone`.
    """

    def load(
        model: str, checkpoint: str | Path | None, device: torch.device, config: SamConfig | None = None
    ) -> SamBackbone:
        weights = model_weights(model, checkpoint)
        network = read(weights.path, model)
        return make(network, name=model, weights_sha256=weights.sha256, device=device, config=config)

    return load
