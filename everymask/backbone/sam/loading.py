"""Loading of models of SAM's families."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from everymask.backbone.models import PrecisionSetting
from everymask.backbone.sam.backbone import SamBackbone
from everymask.backbone.sam.config import SamConfig
from everymask.backbone.weights import model_weights

Network = TypeVar("Network")


class Load(Protocol):
    """A family's `load`, as the table of models calls it."""

    def __call__(
        self,
        model: str,
        checkpoint: str | Path | None,
        device: torch.device,
        precision: PrecisionSetting = "auto",
        config: SamConfig | None = None,
    ) -> SamBackbone:
        """Load a model of the family, ready to embed.

        Args:
            model: its name; without `checkpoint` its published weights are used.
            checkpoint: a file or http(s) URL.
            precision: of encoder and decoder.
            config: precision and batching in more detail; None to follow `precision`.

        Raises:
            CheckpointError: weights missing, corrupt, or of another architecture.
        """


def family_loader(read: Callable[[Path, str], Network], make: Callable[..., SamBackbone]) -> Load:
    """Make a family's `load` from `read`, a file and model name → network, and `make`, as `sam.make_backbone`."""

    def load(
        model: str,
        checkpoint: str | Path | None,
        device: torch.device,
        precision: PrecisionSetting = "auto",
        config: SamConfig | None = None,
    ) -> SamBackbone:
        weights = model_weights(model, checkpoint)
        network = read(weights.path, model)
        return make(
            network,
            name=model,
            weights_sha256=weights.sha256,
            device=device,
            config=config or SamConfig.asked(precision),
        )

    return load
