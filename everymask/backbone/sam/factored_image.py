"""Each prompt's own image tokens as factors, for a CPU: they are never made.

What layer j gave an image token is a sum of Th rows, weighted by its attention. A row is what a value, D numbers of one
head, becomes by the model's linear maps, and whatever is asked of a token before the next norm is linear, too. Products
of rows and the tokens that prompts share are thus products of values and a projection of those tokens, made once an
image: D channels deep instead of C.

A norm's mean is a linear map too. The rest of it is one number a token, `scale`.

Symbols: N prompts, T tokens a prompt, L image tokens, C channels, h heads, D channels a head, R = Th rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from segment_anything.modeling.transformer import Attention
from torch.nn import functional as F

from everymask.backbone.sam.attention import Linear, Projections, products_by_head, read_shares, split_heads
from everymask.backbone.sam.own_image import Enlarging


@dataclass(frozen=True)
class Made:
    """How image tokens are made after a layer.

    Attributes:
        rows: (h, D + 1, C) float32 for each layer so far: its values, and a 1 after each head's, → rows.
        lacking: (C,) float32, what factored tokens are short of: the norm's bias.
    """

    rows: Sequence[torch.Tensor]
    lacking: torch.Tensor

    def mapped(self, weight: torch.Tensor) -> list[torch.Tensor]:
        """(h, D + 1, X) for each layer so far: its values → rows times the weight (X, C)."""
        return [rows @ weight.t().to(rows.device) for rows in self.rows]


@dataclass(frozen=True)
class _Normed:
    """What a norm needs of the tokens that prompts share.

    Attributes:
        energies: (L,) float32, the mean square over channels of tokens less their mean.
        products: (h, D + 1, L) for each layer so far: its values → products of rows and tokens.
    """

    energies: torch.Tensor
    products: Sequence[torch.Tensor]


@dataclass(frozen=True)
class _Read:
    """Shared tokens as keys and values of prompt tokens, (h, D, L) and (h, L, D), and as queries (h, D, L); after the
    last layer they ask nothing. All without bias and positional encoding."""

    keys: torch.Tensor
    values: torch.Tensor
    queries: torch.Tensor | None


@dataclass(frozen=True)
class _Shared:
    """What all prompts on one image share.

    Attributes:
        norms: of each layer.
        read: after each layer.
        tokens: (L, C), after the last.
    """

    norms: Sequence[_Normed]
    read: Sequence[_Read]
    tokens: torch.Tensor


@dataclass(frozen=True)
class FactoredImage:
    """After k layers token l of prompt n is `scale[n, l] (shared[l] + Σ_j Σ_r weights[j][n, r, l] rows[j][n, r])`, less
    what it lacks. Before the first, all have the shared tokens.

    Attributes:
        shared: of the image.
        values: k times (N, T, h(D + 1)), from which rows are made.
        weights: k times (N, R, L).
        spread: (N, 1, L) float32, `1 / scale`.
        scale: (N, 1, L).
    """

    shared: _Shared
    values: tuple[torch.Tensor, ...]
    weights: tuple[torch.Tensor, ...]
    spread: torch.Tensor
    scale: torch.Tensor

    def rows(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """k times (N, R, X), by `Made.mapped`."""
        return [products_by_head(values, each) for values, each in zip(self.values, maps, strict=True)]

    def enlarge(self, prompt: int, rows: torch.Tensor, first: Enlarging) -> torch.Tensor:
        """(C, M), a prompt's tokens that are not padding after the first step of up-scaling; `rows` (C, kR) are after
        it, too."""
        assert first.shared is not None
        scale = first.valid(self.scale[prompt])
        weights = scale.new_empty(rows.shape[1], *first.valid_hw)
        for own, part in zip(self.weights, torch.split(weights, self.weights[0].shape[1]), strict=True):
            torch.mul(first.valid(own[prompt]), scale, out=part)
        enlarged = torch.addcmul(first.rest, first.shared, scale.reshape(1, -1))
        return enlarged.addmm_(rows, weights.flatten(1))


class FactoredLayers:
    """What layers and the final attention do with image tokens. See `OwnLayers`.

    The mean square of a token before a norm is `energy + Σ_r w_r (2 row_r·shared + Σ_s row_r·row_s w_s) / C`.
    """

    def __init__(self, transformer: Any, position: torch.Tensor, device: torch.device, dtype: torch.dtype) -> None:
        """`transformer` is SAM's, fp32; `position` (L, C) fp32."""
        layers = list(transformer.layers)
        norms = [layer.norm4 for layer in layers]
        self._device, self._dtype = device, dtype
        self._gains = [norm.weight.detach().to(device, torch.float32) for norm in norms]
        self._eps = [float(norm.eps) for norm in norms]
        self._values, self._centred = [], []
        self._made: list[Made] = []
        for layer, norm in zip(layers, norms, strict=True):
            values, rows = _written(
                Projections.of(layer.cross_attn_image_to_token), self._made[-1].lacking if self._made else None
            )
            self._values.append(values.to(device, dtype))
            before = [_centred(each) for each in [*(self._made[-1].rows if self._made else []), rows]]
            self._centred.append([each.to(device) for each in before])
            gain, bias = norm.weight.detach().clone(), norm.bias.detach().clone()
            self._made.append(Made([each * gain for each in before], bias))
        self._rows = [[each.to(dtype) for each in before] for before in self._centred]
        reading = [*(layer.cross_attn_token_to_image for layer in layers[1:]), transformer.final_attn_token_to_image]
        self._read = [
            _TokenToImage(attention, position, made, device, dtype)
            for attention, made in zip(reading, self._made, strict=True)
        ]
        self._attend = [
            _ImageToToken(layer.cross_attn_image_to_token, position, made, device, dtype)
            for layer, made in zip(layers[1:], self._made, strict=False)
        ]

    @property
    def made(self) -> Made:
        """How tokens are made after the last layer."""
        return self._made[-1]

    def prepare(self, tokens: torch.Tensor) -> FactoredImage:
        """See `OwnLayers`."""
        x = tokens.float()
        norms, read = [], []
        for layer, gain in enumerate(self._gains):
            x = _centred(x)
            products = [(rows @ x.t()).to(self._dtype) for rows in self._centred[layer]]
            norms.append(_Normed(x.square().mean(1), products))
            x = x * gain
            own = x.to(self._dtype)
            queries = self._attend[layer].queries(own) if layer < len(self._attend) else None
            read.append(_Read(self._read[layer].keys(own), self._read[layer].values(own), queries))
        one = torch.ones(1, 1, 1, device=self._device)
        return FactoredImage(_Shared(norms, read, x.to(self._dtype)), (), (), one, one.to(self._dtype))

    def read(self, layer: int, tokens: torch.Tensor, image: FactoredImage) -> torch.Tensor:
        """See `OwnLayers`."""
        return self._read[layer - 1].read(tokens, image)

    def attend(self, layer: int, tokens: torch.Tensor, image: FactoredImage) -> torch.Tensor:
        """See `OwnLayers`."""
        return self._attend[layer - 1].attend(tokens, image)

    def write(self, layer: int, image: FactoredImage, attention: torch.Tensor, tokens: torch.Tensor) -> FactoredImage:
        """See `OwnLayers`."""
        eps: float | torch.Tensor = self._eps[layer]
        if layer:
            # The tokens so far are `scale` times their factors; what is added is not.
            attention.mul_(image.spread.to(self._dtype))
            eps = eps * image.spread.square()
        norm = image.shared.norms[layer]
        values, weights = (*image.values, self._values[layer](tokens)), (*image.weights, attention)
        rows = [products_by_head(own, maps) for own, maps in zip(values, self._rows[layer], strict=True)]
        # The mean over channels of the sum over rows, by a product: a sum into float32 would copy half precision first.
        share = tokens.new_full((len(tokens), 1, rows[0].shape[1]), 1 / tokens.shape[-1])
        energy = norm.energies
        for place, (own, maps) in enumerate(zip(values, norm.products, strict=True)):
            products = products_by_head(own, maps)
            products.baddbmm_(rows[place] @ rows[place].transpose(1, 2), weights[place], beta=2)
            for later in range(place + 1, len(rows)):  # each pair of layers once
                products.baddbmm_(rows[place] @ rows[later].transpose(1, 2), weights[later], alpha=2)
            energy = energy + (share @ products.mul_(weights[place])).float()
        spread = energy.clamp_min_(0).add_(eps).sqrt_()
        return FactoredImage(image.shared, values, weights, spread, spread.reciprocal().to(self._dtype))


class _TokenToImage:
    """Prompt tokens read their prompt's own image tokens."""

    def __init__(
        self, attention: Attention, position: torch.Tensor, made: Made, device: torch.device, dtype: torch.dtype
    ) -> None:
        own = Projections.of(attention)
        self._heads = own.heads
        self._queries, self._keys, self._values = (x.to(device, dtype) for x in (own.queries, own.keys, own.values))
        # A head's attention sums to one. In keys, what is lacking adds the same number to all scores of a softmax.
        bias = own.out(own.values(made.lacking.to(own.out.bias.device)))
        self._out = Linear(own.out.weight, bias).to(device, dtype)
        self._rows_keys = [rows.to(device, dtype) for rows in made.mapped(own.keys.weight)]
        self._rows_values = [rows.to(device, dtype) for rows in made.mapped(own.values.weight)]
        keys = split_heads(F.linear(position, own.keys.weight.to(position.device)), own.heads)
        self._position_keys = keys.transpose(1, 2).contiguous().to(device, dtype)  # (h, D, L)

    def keys(self, image: torch.Tensor) -> torch.Tensor:
        """(L, C) → (h, D, L)."""
        return split_heads(F.linear(image, self._keys.weight), self._heads).transpose(1, 2).contiguous()

    def values(self, image: torch.Tensor) -> torch.Tensor:
        """(L, C) → (h, L, D)."""
        return split_heads(F.linear(image, self._values.weight), self._heads).contiguous()

    def read(self, tokens: torch.Tensor, image: FactoredImage) -> torch.Tensor:
        """(N, T, C) tokens with positional encoding → (N, T, C)."""
        shared = image.shared.read[len(image.values) - 1]
        queries = self._queries(tokens)
        scores = products_by_head(queries, self._position_keys)
        scores.addcmul_(_products(queries, shared.keys, image, self._rows_keys), image.scale)
        attention = torch.softmax(scores, -1, out=scores).mul_(image.scale)
        return self._out(_mixed(attention, shared.values, image, self._rows_values))


class _ImageToToken:
    """A prompt's own image tokens read its tokens."""

    def __init__(
        self, attention: Attention, position: torch.Tensor, made: Made, device: torch.device, dtype: torch.dtype
    ) -> None:
        own = Projections.of(attention)
        self._heads = own.heads
        self._queries, self._keys = own.queries.to(device, dtype), own.keys.to(device, dtype)
        self._rows_queries = [rows.to(device, dtype) for rows in made.mapped(own.queries.weight)]
        whole = (position + made.lacking.to(position.device)).to(device, dtype)
        queries = split_heads(self._queries(whole), self._heads)
        self._position_queries = queries.transpose(1, 2).contiguous()  # (h, D, L)

    def queries(self, image: torch.Tensor) -> torch.Tensor:
        """(L, C) → (h, D, L)."""
        return split_heads(F.linear(image, self._queries.weight), self._heads).transpose(1, 2).contiguous()

    def attend(self, tokens: torch.Tensor, image: FactoredImage) -> torch.Tensor:
        """`read_shares` in (N, T, C) tokens with positional encoding."""
        queries = image.shared.read[len(image.values) - 1].queries
        assert queries is not None
        keys = self._keys(tokens)
        scores = products_by_head(keys, self._position_queries)
        scores.addcmul_(_products(keys, queries, image, self._rows_queries), image.scale)
        return read_shares(scores, tokens.shape[1])


def _products(
    tokens: torch.Tensor, shared: torch.Tensor, image: FactoredImage, maps: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Products of tokens (N, T, hD) and projected image tokens less their scale, head by head → (N, Th, L).

    Args:
        shared: (h, D, L), the shared image tokens projected.
        maps: k times (h, D + 1, hD), by which values become projected rows.
    """
    heads = len(shared)
    products = products_by_head(tokens, shared)
    asked = _by_head(tokens, heads)
    for rows, weights in zip(image.rows(maps), image.weights, strict=True):
        asked_of_rows = asked @ _by_head(rows, heads).transpose(2, 3)  # (N, h, T, R)
        products.baddbmm_(asked_of_rows.transpose(1, 2).flatten(1, 2), weights)
    return products


def _mixed(
    attention: torch.Tensor, shared: torch.Tensor, image: FactoredImage, maps: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Projected image tokens less their scale, summed with weights (N, Th, L) → (N, T, hD).

    Args:
        shared: (h, L, D), the shared image tokens projected.
        maps: as for `_products`.
    """
    prompts, heads = len(attention), len(shared)
    by_token = attention.view(-1, heads, attention.shape[2])
    mixed = attention.new_empty(len(by_token), heads, shared.shape[2])
    for head in range(heads):
        torch.mm(by_token[:, head], shared[head], out=mixed[:, head])
    mixed = mixed.view(prompts, -1, heads * shared.shape[2])
    for rows, weights in zip(image.rows(maps), image.weights, strict=True):
        shares = (attention @ weights.transpose(1, 2)).view(prompts, -1, heads, rows.shape[1])
        mixed += (shares.transpose(1, 2) @ _by_head(rows, heads)).transpose(1, 2).flatten(2)
    return mixed


def _written(own: Projections, lacking: torch.Tensor | None) -> tuple[Linear, torch.Tensor]:
    """What image tokens are given, of fp32 weights: (h(D + 1), C), prompt tokens → values with a 1 after each head's;
    and (h, D + 1, C), those → rows.

    A head's attention sums to one, so constants are given with the 1: the bias, and what the tokens lack.
    """
    weight, bias = own.by_head(own.values.weight), own.values.bias.view(own.heads, -1, 1)
    values = Linear(F.pad(weight, (0, 0, 0, 1)).flatten(0, 1), F.pad(bias, (0, 0, 0, 1), value=1).flatten())
    constant = own.out.bias if lacking is None else own.out.bias + lacking.to(own.out.bias.device)
    constants = (constant / own.heads).expand(own.heads, 1, -1)
    return values, torch.cat([own.by_head(own.out.weight.t()), constants], dim=1)


def _by_head(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(N, X, hD) → (N, h, X, D)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _centred(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(-1, keepdim=True)
