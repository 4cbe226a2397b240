"""The table of models: everything outside its own code in which a model differs. Imports no torch.

Command lines, thresholds, worker placement and the service read it. Checksums and sizes of published files are those
that several independent registries give; the publishers state none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from everymask.errors import ConfigurationError

PrecisionSetting = Literal["auto", "fp32", "bf16"]
"""What is asked of a model's arithmetic. auto: bf16 on a GPU, or fp16 where it has none; on a CPU fp32, but for nano
bf16 where the processor has instructions for it."""


@dataclass(frozen=True)
class WeightSource:
    """A checkpoint to download.

    Attributes:
        url: http or https.
        sha256: lower-case hex digest of the file; None if unknown.
        size_bytes: of the file; None if unknown.
        token_variable: environment variable with the access token for the server; None if it needs none.
    """

    url: str
    sha256: str | None = None
    size_bytes: int | None = None
    token_variable: str | None = None


@dataclass(frozen=True)
class ConfidenceThresholds:
    """Lowest model estimates, in [0, 1], of a mask worth proposing."""

    pred_iou: float
    stability_score: float


SAM_THRESHOLDS = ConfidenceThresholds(pred_iou=0.88, stability_score=0.95)
"""Defaults of `segment_anything.SamAutomaticMaskGenerator`."""


@dataclass(frozen=True)
class Model:
    """One model.

    Attributes:
        family: the package under `everymask.backbone` whose `load` reads its weights.
        weights: where to get its weights; None if they come with everymask.
        size: the weights' size, for people.
        licence: the weights' licence.
        device: recommended device, for people.
        speed: for people: time for an image's entities on two CPU cores.
        mark: a tensor that only this family's weights have; None if no tensor name is stable.
        thresholds: default least predicted IoU and stability.
        class_score_thresh: least class probability of a labelled mask, for class heads trained on its masks; 0.7 is
            U-SAM's value, for SAM.
        worker_memory_bytes: memory of one of its labelling workers on a CPU.
        worker_cores: cores that such a worker keeps busy.
        gpu_batch_size: images encoded together on a GPU.
        finds_concepts: whether its weights answer names (`everymask.backbone.concepts.FindsConcepts`).
    """

    family: str
    weights: WeightSource | None
    size: str
    licence: str
    device: str
    speed: str
    mark: str | None = None
    thresholds: ConfidenceThresholds = SAM_THRESHOLDS
    class_score_thresh: float = 0.7
    worker_memory_bytes: int = 8 * 2**30
    worker_cores: int = 4
    gpu_batch_size: int = 4
    finds_concepts: bool = False


SAM2_THRESHOLDS = ConfidenceThresholds(pred_iou=0.8, stability_score=0.95)
"""Defaults of `sam2.SAM2AutomaticMaskGenerator`."""


def _sam2(size_name: str, sha256: str, size_bytes: int, size: str, device: str) -> Model:
    url = f"https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_{size_name}.pt"
    return Model(
        family="sam2",
        weights=WeightSource(url, sha256, size_bytes),
        mark="image_encoder.trunk.patch_embed.proj.weight",
        size=size,
        licence="Apache-2.0",
        device=device,
        speed="minutes",
        thresholds=SAM2_THRESHOLDS,
    )


_SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything/"

MODELS: Mapping[str, Model] = {
    "nano": Model(
        family="nano",
        weights=None,
        size="3 MB, built in, and 25 MB by pip",
        licence="Apache-2.0",
        device="any CPU",
        speed="a second",
        # A small model is right to be less sure of its masks, and an answer per superpixel has a coarser edge: with
        # SAM's thresholds it would propose nothing. Measured on training images (docs/decisions/entities.md).
        thresholds=ConfidenceThresholds(pred_iou=0.3, stability_score=0.3),
        # Its heads are less sure of whole objects than of parts (docs/decisions/classes.md).
        class_score_thresh=0.5,
        worker_memory_bytes=2**30,
        worker_cores=1,
    ),
    "mobile_sam": Model(
        family="mobile_sam",
        weights=WeightSource(
            "https://github.com/ChaoningZhang/MobileSAM/raw/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
            "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            40_728_226,
        ),
        mark="image_encoder.patch_embed.seq.0.c.weight",
        size="41 MB",
        licence="Apache-2.0",
        device="laptop CPU or GPU",
        speed="a minute",
        worker_memory_bytes=4 * 2**30,
        worker_cores=2,
    ),
    "vit_b": Model(
        family="sam",
        weights=WeightSource(
            _SAM_URL + "sam_vit_b_01ec64.pth",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            375_042_383,
        ),
        mark="image_encoder.pos_embed",
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
        mark="image_encoder.pos_embed",
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
        mark="image_encoder.pos_embed",
        size="2.6 GB",
        licence="Apache-2.0",
        device="GPU",
        speed="minutes",
    ),
    "sam2.1_tiny": _sam2(
        "tiny",
        "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
        156_008_466,
        "156 MB",
        "laptop CPU or GPU",
    ),
    "sam2.1_small": _sam2(
        "small",
        "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
        184_416_285,
        "184 MB",
        "laptop CPU or GPU",
    ),
    "sam2.1_base_plus": _sam2(
        "base_plus", "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", 323_606_802, "324 MB", "GPU"
    ),
    "sam2.1_large": _sam2(
        "large", "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 898_083_611, "898 MB", "GPU"
    ),
    "sam3": Model(
        family="sam3",
        weights=WeightSource(
            "https://huggingface.co/facebook/sam3/resolve/main/model.safetensors", token_variable="HF_TOKEN"
        ),
        mark="tracker_model.no_memory_embedding",
        size="3.4 GB, gated: needs HF_TOKEN or --checkpoint",
        licence="SAM License",
        device="GPU",
        speed="minutes",
        # SAM 3 has no automatic masks of its own; it predicts IoU as SAM 2 does.
        thresholds=SAM2_THRESHOLDS,
        worker_memory_bytes=12 * 2**30,
        gpu_batch_size=2,
        finds_concepts=True,
    ),
}

if TYPE_CHECKING:
    ModelName = str
else:
    # A command line shows the choices, and refuses others.
    ModelName = Literal[tuple(MODELS)]


def find_model(name: str) -> Model:
    """A model's row; ConfigurationError if there is no such model."""
    if name not in MODELS:
        known = ", ".join(f"{known} ({row.size})" for known, row in MODELS.items())
        raise ConfigurationError(f"model {name!r} is unknown; choose one of {known}")
    return MODELS[name]


def class_score_thresh(backbone: str) -> float:
    """Least class probability of a backbone's labelled masks; U-SAM's value for backbones outside the table."""
    return MODELS[backbone].class_score_thresh if backbone in MODELS else Model.class_score_thresh


def model_help() -> str:
    """The models for `--help`, one line each: size, licence, device, speed."""
    width = max(map(len, MODELS))
    rows = [f"{name:<{width}}  {row.size}; {row.licence}; {row.device}; {row.speed}" for name, row in MODELS.items()]
    before = "Size, licence, device, and time an image on two CPU cores:"
    return "\n".join((before, *rows, "What is not built in is downloaded once."))
