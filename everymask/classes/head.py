"""The class head of U-SAM (section 3.5): a 4-layer MLP from a mask embedding to C object classes and background."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import safetensors
import safetensors.torch
import torch
from torch import nn

from everymask.classes.features import FeatureKind, MaskFeatures
from everymask.classes.shipped import head_file, shipped_heads
from everymask.errors import ConfigurationError, HeadMismatchError, InputError, OutputError
from everymask.files.json_text import parse_json
from everymask.masks.checked import check_class_name

FORMAT = "everymask class head"
FORMAT_VERSION = 1
MAX_FILE_BYTES = 64 * 2**20
"""Limit of a class head's file; one of 10,000 classes takes 11 MiB."""


@dataclass(frozen=True)
class HeadSpec:
    """The purpose and shape of a head; stored with it.

    Attributes:
        classes: names of the object classes; class_id is the index. Background is logit C, not among them.
        backbone: registry name of the backbone whose embeddings it reads.
        weights_sha256: digest of that backbone's weights.
        features: what it reads of a mask; `token` is the paper's head.
        token_dim: C_token, the length of a mask token.
        feature_dim: F, the length of an image feature.
        hidden_dim: width of the three hidden layers.
        crop_dim: length of a crop's description, 0 for heads that read none.
        describer: the encoder of the crops; empty for heads that read none.
        score_thresh: default least class probability of a labelled mask; 0.7 for older heads, which do not store it.
    """

    classes: tuple[str, ...]
    backbone: str
    weights_sha256: str
    features: FeatureKind
    token_dim: int
    feature_dim: int
    hidden_dim: int = 256
    crop_dim: int = 0
    describer: str = ""
    score_thresh: float = 0.7

    def __post_init__(self) -> None:
        if not self.classes:
            raise ConfigurationError("no class is named; a head needs at least one")
        texts = (*self.classes, self.backbone, self.weights_sha256)
        if not all(isinstance(text, str) for text in texts) or not "".join(texts[-2:]).isprintable():
            raise ConfigurationError("the names of classes and model and the digest of its weights must be text")
        try:
            for name in self.classes:
                check_class_name(name)
        except InputError as error:
            raise ConfigurationError(str(error)) from None
        if len(set(self.classes)) != len(self.classes):
            twice = sorted(name for name, count in Counter(self.classes).items() if count > 1)
            raise ConfigurationError(f"class {', '.join(twice)} is named twice; every class must be named once")
        if self.features not in get_args(FeatureKind):
            raise ConfigurationError(f"features {self.features!r} is unknown; use {' or '.join(get_args(FeatureKind))}")
        for name in ("token_dim", "feature_dim", "hidden_dim", "crop_dim"):
            length = getattr(self, name)
            if type(length) is not int or length < (name == "hidden_dim"):
                raise ConfigurationError(f"{name} of a class head must be a whole number of a length; got {length!r}")
        if type(self.score_thresh) not in (int, float) or not 0 <= self.score_thresh <= 1:
            raise ConfigurationError(f"score_thresh of a class head must be in [0, 1]; got {self.score_thresh!r}")

    @property
    def reads_crops(self) -> bool:
        """Whether masks must be described by their crops."""
        return "crop" in self.features.split("+")

    @property
    def input_dim(self) -> int:
        """Length of the vector that describes one mask."""
        lengths = {"token": self.token_dim, "pooled": self.feature_dim, "crop": self.crop_dim}
        return sum(lengths[name] for name in self.features.split("+"))


class ClassHead(nn.Module):
    """Logits of C classes and background (last) for each mask.

    Inputs are standardised by the mean and deviation of the training masks, which are part of the head (our choice).
    """

    input_mean: torch.Tensor
    input_deviation: torch.Tensor
    file_sha256: str | None = None
    """Hex digest of its file; None for a head that was just trained."""

    def __init__(self, spec: HeadSpec, dropout: float = 0.0) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("input_mean", torch.zeros(spec.input_dim))
        self.register_buffer("input_deviation", torch.ones(spec.input_dim))
        widths = [spec.input_dim, spec.hidden_dim, spec.hidden_dim, spec.hidden_dim]
        hidden: list[nn.Module] = []
        for inner, outer in itertools.pairwise(widths):
            hidden += [nn.Linear(inner, outer), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*hidden, nn.Linear(spec.hidden_dim, len(spec.classes) + 1))

    @property
    def num_classes(self) -> int:
        """C, object classes without background."""
        return len(self.spec.classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(…, input_dim) float mask descriptions → (…, C + 1) logits, background last."""
        logits: torch.Tensor = self.layers((inputs - self.input_mean) / self.input_deviation)
        return logits

    @torch.no_grad()
    def standardise(self, inputs: torch.Tensor) -> None:
        """Set mean and deviation from (M, input_dim) training masks; a constant input stays constant."""
        self.input_mean.copy_(inputs.mean(dim=0))
        deviation = inputs.std(dim=0, correction=0)
        self.input_deviation.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    @torch.no_grad()
    def probabilities(self, features: MaskFeatures) -> torch.Tensor:
        """Descriptions of M masks → (M, C + 1) float32 softmax over classes and background.

        Raises:
            HeadMismatchError: the head reads crops, and the masks have no description of crops that fits.
        """
        count = len(features.token)
        if count and self.spec.reads_crops and features.crop.shape[1] != self.spec.crop_dim:
            raise HeadMismatchError(
                f"the class head ({', '.join(self.spec.classes)}) reads crops of masks, which these masks were not "
                "described by; describe them with --classes.masks.describer crop"
            )
        inputs = features.inputs(self.spec.features).reshape(count, self.spec.input_dim)
        logits = self.forward(inputs.to(self.input_mean.device))
        return logits.softmax(dim=-1).cpu()


def check_backbone(spec: HeadSpec, backbone: str, weights_sha256: str) -> None:
    """Refuse a head that was trained on another backbone.

    Raises:
        HeadMismatchError: name or weights differ.
    """
    if (spec.backbone, spec.weights_sha256) != (backbone, weights_sha256):
        raise HeadMismatchError(
            f"the class head ({', '.join(spec.classes)}) was trained on model {spec.backbone} with weights "
            f"{spec.weights_sha256[:12]}, but {backbone} with weights {weights_sha256[:12]} is running; choose that "
            "model, or train the head again with `everymask train classes`"
        )


def save_head(head: ClassHead, path: str | Path) -> None:
    """Write one `.safetensors` file, whole or not at all.

    Examples:
        >>> head = everymask.train_classes({"disc": ["shapes/disc-0.png"], "square": ["shapes/square-0.png"]})
        >>> everymask.save_head(head, "shapes.safetensors")
        >>> labels = everymask.label("photo.jpg", head="shapes.safetensors")

    Raises:
        ConfigurationError: it holds NaN or infinity.
        OutputError: the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ConfigurationError("the class head holds NaN or infinity and was not written")
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "head": json.dumps(asdict(head.spec))}
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(safetensors.torch.save(tensors, metadata))
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OutputError(f"the class head cannot be written to {target}: {error}") from error


def load_head(path: str | Path, device: torch.device | str = "cpu") -> ClassHead:
    """Read a class head, ready for inference: a file, or a shipped head by its name (`everyday`).

    Raises:
        ConfigurationError: the file is missing, damaged, no class head, or larger than `MAX_FILE_BYTES`.
    """
    file = head_file(path)
    remedy = "make one with `everymask train classes`"
    if not file.is_file():
        raise ConfigurationError(
            f"there is no class head at {file}; {remedy}, or name a shipped one ({', '.join(shipped_heads())})"
        )
    try:
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ConfigurationError(
                f"{file} has {size:,} bytes; a class head has at most {MAX_FILE_BYTES:,}; {remedy}"
            )
        # Read once, so that the digest is of the very bytes that were used.
        content = file.read_bytes()
        tensors = safetensors.torch.load(content)
        metadata = _metadata(content)
    except (safetensors.SafetensorError, OSError) as error:
        raise ConfigurationError(f"the class head {file} is damaged ({error}); {remedy}") from error
    if metadata.get("format") != FORMAT:
        raise ConfigurationError(f"{file} is a safetensors file, but no class head; {remedy}")
    if metadata.get("version") != str(FORMAT_VERSION):
        raise ConfigurationError(
            f"the class head {file} has format version {metadata.get('version')}, this release reads "
            f"{FORMAT_VERSION}; {remedy}"
        )
    try:
        fields = parse_json(metadata["head"])
        spec = HeadSpec(**{**fields, "classes": tuple(fields["classes"])})
        # The description must not reserve memory that the file's own tensors do not fill.
        with torch.device("meta"):
            head = ClassHead(spec)
        head.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigurationError) as error:
        raise ConfigurationError(f"the class head {file} does not fit together ({error}); {remedy}") from error
    head.file_sha256 = hashlib.sha256(content).hexdigest()
    return head.to(device).eval()


def _metadata(content: bytes) -> dict[str, str]:
    """A safetensors file's metadata: JSON behind its own length in 8 bytes, little endian."""
    length = int.from_bytes(content[:8], "little")
    found: dict[str, str] = parse_json(content[8 : 8 + length]).get("__metadata__", {})
    return found
