"""Each prompt's own image tokens, in two forms with the same numbers.

They start as the image's tokens, and each layer adds what they read of the prompt and normalises them. A dense image
(`dense_image.py`) holds them: few operations, for a GPU. A factored image (`factored_image.py`) never makes them, for a
CPU, where touching memory costs as much as the arithmetic.

Symbols: N prompts, T tokens a prompt, L image tokens, C channels, h heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

Image = TypeVar("Image")


class OwnLayers(Protocol[Image]):
    """What the transformer's layers, counted from 0, do with image tokens in one form."""

    def prepare(self, tokens: torch.Tensor) -> Image:
        """(L, C) image tokens, which all prompts share, before the first layer."""
        ...

    def read(self, layer: int, tokens: torch.Tensor, image: Image) -> torch.Tensor:
        """Prompt tokens (N, T, C), with positional encoding, read their image tokens in a layer other than the first;
        one after the last is the final attention → (N, T, C)."""
        ...

    def attend(self, layer: int, tokens: torch.Tensor, image: Image) -> torch.Tensor:
        """How much image tokens read of prompt tokens (N, T, C), with positional encoding, in a layer other than the
        first: (N, Th, L), 1 for each head."""
        ...

    def write(self, layer: int, image: Image, attention: torch.Tensor, tokens: torch.Tensor) -> Image:
        """Add what image tokens read, with attention (N, Th, L), which may be overwritten, of prompt tokens (N, T, C),
        and normalise."""
        ...


@dataclass(frozen=True)
class Enlarging:
    """The first step of up-scaling as a matrix product, for the part of the grid that is not padding.

    Attributes:
        weight: (C, C), to four pixels of C/4 channels.
        rest: (C,) or, with skips, (M, C), what is added: the bias, and the skip; for a factored image (C, 1) or (C, M).
        shared: (C, M), the product with the image tokens that prompts share; for a factored image.
        grid_hw: (rows, columns) of image tokens, L in all.
        valid_hw: those that are not padding, M in all.
    """

    weight: torch.Tensor
    rest: torch.Tensor
    shared: torch.Tensor | None
    grid_hw: tuple[int, int]
    valid_hw: tuple[int, int]

    def valid(self, x: torch.Tensor) -> torch.Tensor:
        """(..., L) → (..., rows, columns), those that are not padding."""
        rows, columns = self.valid_hw
        return torch.unflatten(x, -1, self.grid_hw)[..., :rows, :columns]
