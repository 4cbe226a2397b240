"""How a SAM is run: precision and batching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from everymask.errors import ConfigurationError

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class SamConfig:
    """Run-time settings of an official SAM.

    Attributes:
        encoder_precision: of the image encoder's transformer (its neck runs in fp32). None: bf16 on a GPU, fp32 on a
            CPU. An embedding computed on a GPU is stored in fp16.
        decoder_precision: of the prompt decoder. fp32 equals `segment_anything`; the others are faster and move some
            mask borders.
        points_per_batch: prompts decoded at a time, at least 1; halved, with a warning, when memory runs out. None: 64
            on a GPU; 3 on a CPU, where larger buffers would not be reused.
    """

    encoder_precision: Precision | None = None
    decoder_precision: Precision = "fp32"
    points_per_batch: int | None = None

    def __post_init__(self) -> None:
        if self.points_per_batch is not None and self.points_per_batch < 1:
            raise ConfigurationError(f"points_per_batch is {self.points_per_batch}; it must be at least 1")
        for field in ("encoder_precision", "decoder_precision"):
            precision = getattr(self, field)
            if precision is not None and precision not in DTYPES:
                raise ConfigurationError(f"{field} {precision!r} is unknown; choose one of {', '.join(DTYPES)}")

    def encoder_dtype(self, device: torch.device) -> torch.dtype:
        """The dtype of the encoder's transformer on `device`."""
        if self.encoder_precision is None:
            return torch.float32 if device.type == "cpu" else torch.bfloat16
        return DTYPES[self.encoder_precision]

    def prompts_at_a_time(self, device: torch.device) -> int:
        """`points_per_batch`, or the default for `device`."""
        return self.points_per_batch or (3 if device.type == "cpu" else 64)

    @property
    def decoder_dtype(self) -> torch.dtype:
        return DTYPES[self.decoder_precision]
