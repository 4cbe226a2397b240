"""Each prompt's own image tokens, in two forms with the same numbers.

They start as the image's tokens, and each layer adds what they read of the prompt and normalises them. `DenseImage`
holds them: few operations, for a GPU. `FactoredImage` never makes them, for a CPU, where touching memory costs as much
as the arithmetic: what was read is Th values with an attention of Th x L numbers, a quarter of L x C, and products with
the tokens that all prompts share are one large matrix product.

Symbols: N prompts, T tokens a prompt, L image tokens, C channels, h heads, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Enlarging:
    """The first step of up-scaling as a matrix product, for the part of the grid that is not padding.

    Attributes:
        weight: (C, C), to four pixels of C/4 channels.
        rest: (C,) or, with skips, (M, C), what is added: the bias, and the skip; for `FactoredImage` (C, 1) or (C, M).
        shared: (C, M), the product with the image tokens that prompts share; for `FactoredImage`.
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


class OwnImage(Protocol):
    """Each prompt's own image tokens, in whatever form, less an offset (C,) that all share."""

    def add_products(self, scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Add the products of rows (N, J, C) and image tokens to scores (N, J, L), in place."""
        ...

    def mix(self, attention: torch.Tensor) -> torch.Tensor:
        """Sum the image tokens, weighted by attention (N, J, L), which may be overwritten → (N, J, C)."""
        ...


@dataclass(frozen=True)
class SharedImage:
    """What prompts share of the image tokens before and after each layer of `FactoredLayers`.

    Attributes:
        tokens: (L, C) each: less their mean, then after each norm.
        energies: (L,) float32 before each norm, the mean square over channels, less their mean.
    """

    tokens: Sequence[torch.Tensor]
    energies: Sequence[torch.Tensor]


@dataclass(frozen=True)
class DenseImage:
    """Image tokens as they are; they lack nothing.

    Attributes:
        tokens: (N, L, C).
    """

    tokens: torch.Tensor

    def add_products(self, scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """See `OwnImage`."""
        return scores.baddbmm_(rows, self.tokens.transpose(1, 2))

    def mix(self, attention: torch.Tensor) -> torch.Tensor:
        """See `OwnImage`."""
        return attention @ self.tokens

    def enlarge(self, first: Enlarging) -> torch.Tensor:
        """(N, M, C), the tokens that are not padding after the first step of up-scaling."""
        rows, columns = first.valid_hw
        valid = torch.unflatten(self.tokens, 1, first.grid_hw)[:, :rows, :columns].flatten(1, 2)
        if first.rest.dim() == 1:
            return F.linear(valid, first.weight, first.rest)
        return F.linear(valid, first.weight).add_(first.rest)

    def of(self, prompts: slice) -> DenseImage:
        """The tokens of some prompts."""
        return DenseImage(self.tokens[prompts])


class DenseLayers:
    """How image tokens change from layer to layer."""

    def __init__(self, norms: Sequence[nn.LayerNorm]) -> None:
        """`norms` are on their device, in their precision."""
        self._norms = norms

    def prepare(self, tokens: torch.Tensor) -> SharedImage:
        """(L, C) image tokens → what the layers need of them."""
        return SharedImage([tokens.contiguous()], [])

    def write(
        self, layer: int, shared: SharedImage, image: OwnImage | None, attention: torch.Tensor, values: torch.Tensor
    ) -> DenseImage:
        """Add what image tokens read: attention (N, Th, L) over values (N, Th, C). In layer 0 there is no image yet."""
        assert image is None or isinstance(image, DenseImage)
        read = attention.transpose(1, 2) @ values
        return DenseImage(self._norms[layer](read.add_(shared.tokens[0] if image is None else image.tokens)))


@dataclass(frozen=True)
class FactoredImage:
    """Token l of prompt n is `scale[n, l] (shared[l] + Σ_r weights[n, r, l] rows[n, r])`; it lacks its norm's bias.

    Attributes:
        shared: (L, C).
        rows: (N, R, C).
        weights: (N, R, L).
        spread: (N, 1, L) float32, `1 / scale`.
        scale: (N, 1, L).
    """

    shared: torch.Tensor
    rows: torch.Tensor
    weights: torch.Tensor
    spread: torch.Tensor
    scale: torch.Tensor

    def add_products(self, scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """See `OwnImage`."""
        products = _with_all(rows, self.shared)
        products.baddbmm_(rows @ self.rows.transpose(1, 2), self.weights)
        return scores.addcmul_(products, self.scale)

    def mix(self, attention: torch.Tensor) -> torch.Tensor:
        """See `OwnImage`."""
        attention = attention.mul_(self.scale)
        mixed = (attention.flatten(0, 1) @ self.shared).view(*attention.shape[:2], -1)
        return mixed.baddbmm_(attention @ self.weights.transpose(1, 2), self.rows)

    def enlarge(self, first: Enlarging) -> torch.Tensor:
        """(C, M), the tokens of one prompt that are not padding after the first step of up-scaling."""
        assert first.shared is not None
        scale = first.valid(self.scale[0])
        weights = (first.valid(self.weights[0]) * scale).flatten(1)
        enlarged = torch.addcmul(first.rest, first.shared, scale.reshape(1, -1))
        return enlarged.addmm_(first.weight @ self.rows[0].t(), weights)

    def of(self, prompts: slice) -> FactoredImage:
        """The tokens of some prompts."""
        own = (self.rows, self.weights, self.spread, self.scale)
        return FactoredImage(self.shared, *(x[prompts] for x in own))


class FactoredLayers:
    """How factored image tokens change from layer to layer.

    A norm's mean is a linear map, which shared tokens and rows go through alike. The rest is one number a token: the
    mean square is `energy + Σ_r w_r (2 row_r·shared + Σ_s row_r·row_s w_s) / C`.
    """

    def __init__(self, norms: Sequence[Any], device: torch.device, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._gains = [norm.weight.detach().to(device, torch.float32) for norm in norms]
        self._eps = [float(norm.eps) for norm in norms]

    def prepare(self, tokens: torch.Tensor) -> SharedImage:
        """(L, C) image tokens → what the layers need of them."""
        x = tokens.float()
        shared, energies = [_centred(x)], []
        for gain in self._gains:
            x = _centred(x)
            energies.append(x.square().mean(1))
            x = x * gain
            shared.append(x)
        return SharedImage([one.to(self._dtype) for one in shared], energies)

    def write(
        self, layer: int, shared: SharedImage, image: OwnImage | None, attention: torch.Tensor, values: torch.Tensor
    ) -> FactoredImage:
        """Add what image tokens read: attention (N, Th, L) over values (N, Th, C). In layer 0 there is no image yet."""
        assert image is None or isinstance(image, FactoredImage)
        rows, weights = _centred(values), attention
        eps: float | torch.Tensor = self._eps[layer]
        if image is not None:
            rows = torch.cat([_centred(image.rows), rows], dim=1)
            before, added = image.weights.shape[1], attention.shape[1]
            weights = attention.new_empty(len(attention), before + added, attention.shape[2])
            weights[:, :before] = image.weights
            torch.mul(attention, image.spread.to(self._dtype), out=weights[:, before:])
            eps = eps * image.spread.square()
        gram = rows @ rows.transpose(1, 2)
        products = _with_all(rows, shared.tokens[layer]).baddbmm_(gram, weights, beta=2).mul_(weights)
        # The mean over channels of the sum over rows, by a product: a sum into float32 would copy half precision first.
        share = rows.new_full((len(rows), 1, rows.shape[1]), 1 / rows.shape[2])
        energy = (share @ products).float().add_(shared.energies[layer])
        spread = energy.clamp_min_(0).add_(eps).sqrt_()
        gain = self._gains[layer].to(self._dtype)
        return FactoredImage(
            shared.tokens[layer + 1], rows * gain, weights, spread, spread.reciprocal().to(self._dtype)
        )


def _centred(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(-1, keepdim=True)


def _with_all(rows: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
    """Products of rows (N, J, C) and tokens (L, C) → (N, J, L)."""
    return (rows.flatten(0, 1) @ shared.t()).view(*rows.shape[:2], -1)
