"""How a SAM is run: precision and batching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from everymask.backbone.models import PrecisionSetting
from everymask.errors import ConfigurationError

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class SamConfig:
    """Run-time settings of an official SAM.

    Attributes:
        encoder_precision: of the image encoder's transformer (its neck runs in fp32). None: bf16 on a GPU, or fp16
            where it has no bf16; fp32 on a CPU. An embedding computed on a GPU is stored in fp16.
        decoder_precision: of the prompt decoder; None as above. fp32 equals `segment_anything`; the others are faster
            and move some mask borders.
        points_per_batch: prompts decoded at a time, at least 1; halved for good, with a warning, when memory runs out.
            None: 256 on a GPU; 8 on a CPU, which larger batches do not make faster.
    """

    encoder_precision: Precision | None = None
    decoder_precision: Precision | None = None
    points_per_batch: int | None = None

    def __post_init__(self) -> None:
        if self.points_per_batch is not None and self.points_per_batch < 1:
            raise ConfigurationError(f"points_per_batch is {self.points_per_batch}; it must be at least 1")
        for field in ("encoder_precision", "decoder_precision"):
            precision = getattr(self, field)
            if precision is not None and precision not in DTYPES:
                raise ConfigurationError(f"{field} {precision!r} is unknown; choose one of {', '.join(DTYPES)}")

    @classmethod
    def asked(cls, precision: PrecisionSetting) -> SamConfig:
        """The settings for what a user asked of encoder and decoder."""
        both = None if precision == "auto" else precision
        return cls(encoder_precision=both, decoder_precision=both)

    def encoder_dtype(self, device: torch.device) -> torch.dtype:
        """The dtype of the encoder's transformer on `device`."""
        return DTYPES[self.encoder_precision or best_precision(device)]

    def decoder_dtype(self, device: torch.device) -> torch.dtype:
        """The dtype of the prompt decoder on `device`."""
        return DTYPES[self.decoder_precision or best_precision(device)]

    def prompts_at_a_time(self, device: torch.device) -> int:
        """`points_per_batch`, or the default for `device`."""
        return self.points_per_batch or (8 if device.type == "cpu" else 256)


def best_precision(device: torch.device) -> Precision:
    """fp32 on a CPU, bf16 on a GPU, fp16 on one that has no bf16."""
    if device.type == "cpu":
        return "fp32"
    # The first GPUs with bf16 are of 2020; PyTorch can imitate it on older ones, slowly.
    has_none = torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False)
    return "fp16" if has_none else "bf16"
