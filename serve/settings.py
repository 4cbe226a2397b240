"""Every option of the service, typed: the allowed `args` of a Serve configuration. Any other key is an error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from everymask.backbone.models import PrecisionSetting, find_model
from everymask.classes.recipes import PAPER_CLASSES, PAPER_MASKS
from everymask.classes.shipped import SHIPPED_HEADS
from everymask.errors import ConfigurationError
from everymask.images.decoding import ImageLimits
from everymask.labelling.config import LabelConfig
from serve.schema import MAX_CLICKS

HOME = Path(os.environ.get("EVERYMASK_HOME") or Path(__file__).resolve().parent.parent)
"""Base of a configuration's relative paths on every replica: EVERYMASK_HOME, or the folder that holds `serve/`."""


@dataclass(frozen=True)
class Replicas:
    """How many processes of a deployment run, and what each reserves on its node."""

    min_replicas: int = 1
    max_replicas: int = 1
    """If above `min_replicas`, Serve scales between the two."""
    target_ongoing_requests: float = 2.0
    """Requests in work per replica at which autoscaling aims."""
    max_ongoing_requests: int = 16
    """Requests that one replica takes at a time; others wait in front of it."""
    num_cpus: float = 0.25
    """Logical CPUs reserved by each."""
    num_gpus: float = 0.0
    """GPUs reserved by each; a fraction shares one."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"min_replicas and max_replicas must satisfy 1 <= min <= max; got {self.min_replicas} and "
                f"{self.max_replicas}"
            )
        if self.max_ongoing_requests < 1 or self.target_ongoing_requests <= 0:
            raise ValueError("max_ongoing_requests must be at least 1 and target_ongoing_requests above 0")
        if self.num_cpus < 0 or self.num_gpus < 0:
            raise ValueError("num_cpus and num_gpus must not be negative")


@dataclass(frozen=True)
class RequestLimits:
    """Limits of an ingress replica on each client and on all of them together."""

    max_in_flight: int = 8
    """Requests with an image or a click in work or waiting; one more is answered 429."""
    retry_after_s: int = 2
    """Seconds that a 429 tells the client to wait."""
    body_limit_s: float = 20.0
    """Seconds to send a request's body; beyond that the answer is 408."""
    max_body_mib: int = 256
    """MiB of all clients' request bodies in memory; a request that does not fit is answered 429."""
    time_limit_s: float = 60.0
    """Seconds from the body's last byte to the answer; beyond that the work is cancelled and the answer is 504."""
    max_clicks: int = 64
    """Most clicks of one prompt, up to 1,000."""
    max_mask_gigapixels: float = 12.0
    """Largest cost of method `amg`: prompts x 3 masks x the image's pixels. 12 took 48 s on two CPU cores."""

    def __post_init__(self) -> None:
        for option in fields(self):
            if getattr(self, option.name) <= 0:
                raise ValueError(f"{option.name} must be above 0; got {getattr(self, option.name)}")
        if self.max_clicks > MAX_CLICKS:
            raise ValueError(f"max_clicks must be at most {MAX_CLICKS:,}; got {self.max_clicks}")


NO_NAMES = (
    "this service answers no names; set `concepts` in its configuration (with `model: sam3`) or `clip`, or give head"
)

NO_EXAMPLES = (
    "boxes are examples for SAM 3 alone; set `concepts` in the service's configuration (with `model: sam3`), or leave "
    "example_boxes out"
)

_OF_LABELS = ("entities", "amg", "classes", "clip", "concepts", "min_region_area", "max_region_area")


class ServiceSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "nano"
    """Registry name of the backbone."""
    checkpoint: str | None = None
    """A file or http(s) URL with other weights of the same architecture."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    precision: PrecisionSetting = "auto"
    """Number format of the model: auto (bf16 on GPUs, fp16 on those without it), fp32 or bf16."""
    torch_threads: int = 1
    """CPU threads of each encoder and refiner replica; of no consequence on a GPU."""
    heads: tuple[str, ...] = ("heads",)
    """Folders of class heads: NAME.safetensors is head NAME. Read on every request; if two folders hold a name, the
    first wins. The heads that come with everymask are found last, in any case."""
    api_keys_file: str | None = None
    """A file with one API key a line; without it, everyone who reaches the port may use the service."""
    embedding_cache_mib: int = 256
    """Each refiner replica's memory for embeddings, which clicks reuse."""
    answer_cache_mib: int = 64
    """Each refiner replica's memory for masks of images that are sent again."""
    decoders: int = 2
    """Image files that one encoder replica decodes at a time; each takes up to 24 bytes a pixel meanwhile."""
    max_batch_size: int = 8
    """Images that one encoder replica encodes at once."""

    label_studio: bool = False
    """Whether `/label-studio` serves Label Studio as a model server."""
    x_anylabeling: bool = False
    """Whether `/x-anylabeling` serves X-AnyLabeling as a remote server."""
    images_root: str | None = None
    """Folder of images that Label Studio's tasks may name; without it only images sent along are accepted."""
    server_timing: bool = False
    """Whether answers have a `Server-Timing` header."""

    limits: ImageLimits = Field(default_factory=ImageLimits)
    requests: RequestLimits = Field(default_factory=RequestLimits)
    labels: LabelConfig = Field(default_factory=LabelConfig)
    """What is done to images, by the settings of jobs: `entities`, `amg`, `classes`, `clip`, `concepts`, `recipe`,
    `min_region_area` and `max_region_area` stand beside the options above."""
    names_by: Literal["clip", "concepts"] | None = None
    """The method behind `/v1/classes?names=cat,dog`: concepts (SAM 3) if `concepts` is given, such as `{}`; else clip
    (SAM + CLIP) if `clip` is, such as `{model: …}`; else none."""

    ingress: Replicas = Field(default_factory=lambda: Replicas(max_ongoing_requests=100))
    encoder: Replicas = Field(default_factory=Replicas)
    refiner: Replicas = Field(default_factory=Replicas)
    classifier: Replicas = Field(default_factory=Replicas)

    @model_validator(mode="before")
    @classmethod
    def _gather_labels(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        rest = {name: value for name, value in given.items() if name not in (*_OF_LABELS, "recipe")}
        labels = {name: given[name] for name in _OF_LABELS if given.get(name) is not None}
        if given.get("recipe") == "paper":
            labels["classes"] = _by_paper(labels.get("classes", {}))
        if labels:
            rest["labels"] = {**rest.get("labels", {}), **labels}
        names_by = next((method for method in ("concepts", "clip") if given.get(method) is not None), None)
        return {**rest, "names_by": names_by}

    @field_validator("heads", mode="before")
    @classmethod
    def _one_folder_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        try:
            find_model(self.model)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        if self.names_by == "concepts" and not find_model(self.model).finds_concepts:
            raise ValueError(f"model {self.model} knows no concepts; set `model: sam3`, or leave `concepts` out")
        if self.labels.amg.crop_n_layers:
            raise ValueError(
                "amg.crop_n_layers is for jobs and the library: a service encodes an image once; leave it out"
            )
        for name in ("torch_threads", "embedding_cache_mib", "answer_cache_mib", "decoders", "max_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.ingress.max_ongoing_requests <= self.requests.max_in_flight:
            raise ValueError(
                f"ingress.max_ongoing_requests ({self.ingress.max_ongoing_requests}) must exceed "
                f"requests.max_in_flight ({self.requests.max_in_flight}), so that the service itself says 429"
            )
        return self

    @property
    def head_folders(self) -> tuple[Path, ...]:
        return (*(HOME / folder for folder in self.heads), SHIPPED_HEADS)


def _by_paper(classes: Mapping[str, Any]) -> dict[str, Any]:
    """The published settings of classes, overridden by the given ones."""
    masks = {**PAPER_MASKS, **classes.get("masks", {})}
    return {**PAPER_CLASSES, **classes, "masks": masks}


def read_settings(args: Mapping[str, Any]) -> ServiceSettings:
    """The settings of a Serve configuration's `args`.

    Raises:
        ConfigurationError: an unknown key, a value of the wrong type, or contradicting values; all are named.
    """
    try:
        return ServiceSettings.model_validate(dict(args))
    except ValidationError as error:
        problems = "; ".join(_problem(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors())
        raise ConfigurationError(f"the service's args cannot be used: {problems}") from error


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(str(part) for part in location).removeprefix("labels.")
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{name} is no option"
    return f"{name}: {message.removeprefix('Value error, ')}" if name else message.removeprefix("Value error, ")
