"""The table of models: a row holds everything that differs from model to model outside its own code. Imports no torch.

Command lines, thresholds, the placement of workers and the service read it. Sums and sizes of published files are those
that several independent registries give; their publishers state none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from everymask.errors import ConfigurationError


@dataclass(frozen=True)
class WeightSource:
    """A checkpoint to be downloaded.

    Attributes:
        url: http or https.
        sha256: lower-case hex digest of the file; None when it is not known beforehand.
        size_bytes: of the file; None when it is not known beforehand.
    """

    url: str
    sha256: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class ConfidenceThresholds:
    """Least estimates of a mask worth proposing.

    Attributes:
        pred_iou: predicted IoU, in [0, 1].
        stability_score: in [0, 1].
    """

    pred_iou: float
    stability_score: float


SAM_THRESHOLDS = ConfidenceThresholds(pred_iou=0.88, stability_score=0.95)
"""Defaults of `segment_anything.SamAutomaticMaskGenerator`."""


@dataclass(frozen=True)
class Model:
    """One model.

    Attributes:
        family: the package under `everymask.backbone` whose `load` reads its weights.
        weights: where its weights are; None when they come with everymask.
        size: of the weights, for people.
        licence: of the weights.
        device: what it wants to run on, for people.
        speed: for people: time of an image's entities on two CPU cores.
        thresholds: of predicted IoU and stability, where none are asked for.
        worker_memory_bytes: what a labelling worker of it takes on a CPU.
        worker_cores: cores that such a worker keeps busy.
        gpu_batch_size: images encoded together on a GPU.
    """

    family: str
    weights: WeightSource | None
    size: str
    licence: str
    device: str
    speed: str
    thresholds: ConfidenceThresholds = SAM_THRESHOLDS
    worker_memory_bytes: int = 8 * 2**30
    worker_cores: int = 4
    gpu_batch_size: int = 4


_SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything/"

MODELS: Mapping[str, Model] = {
    "nano": Model(
        family="nano",
        weights=None,
        size="8 MB, built in",
        licence="Apache-2.0",
        device="any CPU",
        speed="a second",
        # A small model is right to be less sure of its masks, and an answer per superpixel has a coarser edge: with
        # SAM's thresholds it would propose nothing. Measured on training images (docs/decisions/entities.md).
        thresholds=ConfidenceThresholds(pred_iou=0.3, stability_score=0.3),
        worker_memory_bytes=2**30,
        worker_cores=1,
    ),
    "vit_b": Model(
        family="sam",
        weights=WeightSource(
            _SAM_URL + "sam_vit_b_01ec64.pth",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            375_042_383,
        ),
        size="375 MB",
        licence="Apache-2.0",
        device="GPU",
        speed="minutes",
    ),
    "vit_l": Model(
        family="sam",
        weights=WeightSource(
            _SAM_URL + "sam_vit_l_0b3195.pth",
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            1_249_524_607,
        ),
        size="1.2 GB",
        licence="Apache-2.0",
        device="GPU",
        speed="minutes",
    ),
    "vit_h": Model(
        family="sam",
        weights=WeightSource(
            _SAM_URL + "sam_vit_h_4b8939.pth",
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            2_564_550_879,
        ),
        size="2.6 GB",
        licence="Apache-2.0",
        device="GPU",
        speed="minutes",
    ),
}

if TYPE_CHECKING:
    ModelName = str
else:
    # A command line shows the choices, and refuses others.
    ModelName = Literal[tuple(MODELS)]


def find_model(name: str) -> Model:
    """The row of a model.

    Raises:
        ConfigurationError: there is no such model.
    """
    if name not in MODELS:
        known = ", ".join(f"{known} ({row.size})" for known, row in MODELS.items())
        raise ConfigurationError(f"model {name!r} is unknown; choose one of {known}")
    return MODELS[name]


def model_help() -> str:
    """What `--help` says of every model, a line each: size, licence, device, speed."""
    width = max(map(len, MODELS))
    rows = [f"{name:<{width}}  {row.size}; {row.licence}; {row.device}; {row.speed}" for name, row in MODELS.items()]
    before = "Size, licence, device, and time an image on two CPU cores:"
    return "\n".join((before, *rows, "What is not built in is downloaded once."))
