"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any

import tyro

from everymask.backbone.models import ModelName, PrecisionSetting, model_help
from everymask.errors import ConfigurationError


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and what it runs on."""

    model: Annotated[ModelName, tyro.conf.arg(help=model_help())] = "nano"
    checkpoint: str | None = None
    """File or URL of other weights of that model."""
    device: str = "auto"
    """cpu, cuda, cuda:N, or auto: cuda for workers that were given a GPU (they refuse if they see none), else what is
    there."""
    precision: PrecisionSetting = "auto"
    """Number format of the model: auto (bf16 on GPUs, fp16 on those without it; on CPUs the fastest that is exact
    enough), fp32, or bf16. What was asked for is part of a mask's id, what a machine used is in run.json."""


@dataclass(frozen=True)
class AddressOptions:
    """Which addresses are opened that a list, a label store or a file of boxes names."""

    local_root: tuple[str, ...] = ()
    """Folders whose files may be read although a label store, or a list that is not on this machine, names them."""
    allow_private_networks: bool = False
    """Let http addresses in lists and label stores lead to machines that are not on the public internet."""


@dataclass(frozen=True)
class WorkerOptions:
    """How many processes hold the model."""

    actors: str = "auto"
    """Workers that hold the model: N, MIN:MAX (scaled to the work waiting), or auto: one for each GPU, else as many as
    CPUs allow."""
    gpus_per_actor: float | None = None
    """Share of a GPU for each worker; by default 1 where the cluster has GPUs now, else 0. Set it where GPU machines
    start only when asked for."""


def refuse_idle(config: Any, names: Iterable[str], where: str) -> None:
    """Refuse settings that would do nothing.

    Args:
        config: a configuration dataclass.
        names: fields of it, settings or groups of settings, all with defaults.
        where: why they would do nothing, after these words: `without --scenes`.

    Raises:
        ConfigurationError: one of them has another value than by default.
    """
    for field in fields(config):
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if field.name in names and getattr(config, field.name) != default:
            option = f"--{field.name.replace('_', '-')}{'.…' if field.default_factory is not MISSING else ''}"
            raise ConfigurationError(f"{option} does nothing {where}; leave it out")
