"""Checkpoints of `nano`: the trained weights in fp16 with sizes in the metadata, without the frozen trunk."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from everymask.backbone.nano.decoder import DecoderConfig, PromptDecoder
from everymask.backbone.nano.efficientnet import load_efficientnet
from everymask.backbone.nano.encoder import EncoderConfig, NanoEncoder
from everymask.backbone.nano.regions import RegionConfig
from everymask.backbone.tensors import refusing_misfits
from everymask.errors import CheckpointError
from everymask.files.json_text import parse_json

FORMAT = "everymask-nano"
VERSION = "2"
_TRUNK = "encoder.trunk."
_Config = TypeVar("_Config", EncoderConfig, DecoderConfig, RegionConfig)


@dataclass(frozen=True)
class NanoConfig:
    """Sizes of the model and how it cuts images into cells."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    regions: RegionConfig = field(default_factory=RegionConfig)


class NanoModel(nn.Module):
    """Encoder and decoder; the trunk starts with its published weights."""

    def __init__(self, config: NanoConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = NanoEncoder(config.encoder, load_efficientnet())
        self.decoder = PromptDecoder(config.decoder)


def save_checkpoint(model: NanoModel, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write the trained weights atomically in fp16, with `notes` in the metadata."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith(_TRUNK):
            tensor = tensor.detach().cpu().contiguous()
            tensors[name] = tensor.half() if tensor.is_floating_point() else tensor
    metadata = {"format": FORMAT, "version": VERSION, "config": json.dumps(asdict(model.config)), **(notes or {})}
    aside = path.with_name(path.name + ".part")
    save_file(tensors, aside, metadata)
    aside.chmod(0o644)  # safetensors keeps its files to the owner; an installed package is read by everybody.
    aside.replace(path)


def load_checkpoint(path: Path) -> NanoModel:
    """A file's model, float32 on the CPU, in evaluation mode.

    Raises:
        CheckpointError: unreadable, not a nano checkpoint, of another version, tensors that do not fit, or no trunk.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint (truncated, corrupt or not safetensors); "
            "fetch it again, or name another file with --checkpoint"
        ) from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} holds no nano model; use a file made by `everymask train nano`")
    if metadata.get("version") != VERSION:
        raise CheckpointError(
            f"{path} is a nano checkpoint of version {metadata.get('version')}, this code reads version {VERSION}; "
            "install the everymask that wrote it, or train again with `everymask train nano`"
        )
    with refusing_misfits(path, "nano's architecture", "use a file made by `everymask train nano`"):
        model = NanoModel(_read_config(parse_json(metadata["config"])))
        trunk = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(_TRUNK)}
        model.load_state_dict(tensors | trunk)
    return model.eval()


def _read_config(content: dict[str, Any]) -> NanoConfig:
    def build(kind: Callable[..., _Config], values: dict[str, Any]) -> _Config:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    return NanoConfig(
        encoder=build(EncoderConfig, content["encoder"]),
        decoder=build(DecoderConfig, content["decoder"]),
        regions=build(RegionConfig, content["regions"]),
    )
