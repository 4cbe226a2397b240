"""The prompt decoder's attention: among a prompt's few tokens, and between these and image tokens that prompts share.

That with a prompt's own image tokens depends on their form (`dense_image.py`, `factored_image.py`). Linear maps that
follow each other are one, made when the weights are loaded.

Symbols: N prompts, T tokens a prompt, L image tokens, C channels, h heads, D channels a head. Rows of a prompt's scores
are ordered by token, then by head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling.transformer import Attention
from torch.nn import functional as F


@dataclass(frozen=True)
class Linear:
    """Weight (to, from) and bias (to,)."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)

    def to(self, device: torch.device, dtype: torch.dtype) -> Linear:
        """A copy."""
        return Linear(self.weight.to(device, dtype, copy=True), self.bias.to(device, dtype, copy=True))


@dataclass(frozen=True)
class Projections:
    """The weights of an official attention layer in fp32, without gradients, its 1/√D folded into the queries.

    A key's bias adds the same number to all scores of a softmax, so it is zero here. Shapes: `queries`, `keys` and
    `values` (hD, C), `out` (C, hD).
    """

    heads: int
    queries: Linear
    keys: Linear
    values: Linear
    out: Linear

    @classmethod
    def of(cls, attention: Attention) -> Projections:
        scale = (attention.internal_dim / attention.num_heads) ** -0.5
        queries, keys, values, out = (
            Linear(layer.weight.detach(), layer.bias.detach())
            for layer in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)
        )
        return cls(
            attention.num_heads,
            queries=Linear(queries.weight * scale, queries.bias * scale),
            keys=Linear(keys.weight, torch.zeros_like(keys.bias)),
            values=values,
            out=out,
        )

    def by_head(self, weight: torch.Tensor) -> torch.Tensor:
        """(hD, X) → (h, D, X)."""
        return weight.view(self.heads, -1, weight.shape[-1])


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(..., hD) → (h, M, D), the leading axes flattened to M."""
    return x.reshape(-1, heads, x.shape[-1] // heads).transpose(0, 1)


def products_by_head(tokens: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Products of tokens (N, T, hD) and `others` (h, D, X), each head with its own → (N, Th, X)."""
    heads, _, length = others.shape
    own = split_heads(tokens, heads)
    if tokens.device.type != "cpu":
        return (own @ others).transpose(0, 1).reshape(len(tokens), -1, length)
    # Written where they belong: sorting them afterwards would take as long.
    products = tokens.new_empty(own.shape[1], heads, length)
    for head in range(heads):
        torch.mm(own[head], others[head], out=products[:, head])
    return products.view(len(tokens), -1, length)


def read_shares(scores: torch.Tensor, tokens: int) -> torch.Tensor:
    """How much image tokens read of each of a prompt's T tokens, from scores (N, Th, L), which may be overwritten: the
    same shape, 1 for each head."""
    by_token = scores.view(len(scores), tokens, -1)
    if scores.device.type != "cpu":
        return by_token.softmax(1).view_as(scores)
    torch.softmax(by_token, 1, out=by_token)  # fresh memory would cost as much
    return scores


class SelfAttention:
    """A prompt's tokens read each other."""

    def __init__(self, attention: Attention, device: torch.device, dtype: torch.dtype) -> None:
        own = Projections.of(attention)
        self._heads = own.heads
        self._out = own.out.to(device, dtype)
        three = (own.queries, own.keys, own.values)
        weight, bias = torch.cat([one.weight for one in three]), torch.cat([one.bias for one in three])
        self._all = Linear(weight, bias).to(device, dtype)

    def alike(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, T, C) tokens are queries, keys and values → (N, T, C)."""
        return self._attend(*self._all(tokens).chunk(3, dim=-1))

    def placed(self, tokens: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """As `alike`, queries and keys with their (N, T, C) positional encoding."""
        weight, bias = self._all.weight, self._all.bias
        both = 2 * len(weight) // 3
        queries, keys = F.linear(tokens + position, weight[:both], bias[:both]).chunk(2, dim=-1)
        return self._attend(queries, keys, F.linear(tokens, weight[both:], bias[both:]))

    def _attend(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        shape = (*queries.shape[:2], self._heads, -1)
        q, k, v = (x.view(shape).transpose(1, 2) for x in (queries, keys, values))
        read = F.scaled_dot_product_attention(q, k, v, scale=1.0)  # (N, h, T, D)
        return self._out(read.transpose(1, 2).flatten(2))


class SharedTokenToImage:
    """Prompt tokens read an image that all prompts share: they are the queries; keys and values are image tokens."""

    def __init__(self, attention: Attention, device: torch.device, dtype: torch.dtype) -> None:
        own = Projections.of(attention)
        self._heads = own.heads
        self._queries, self._keys, self._values, self._out = (
            linear.to(device, dtype) for linear in (own.queries, own.keys, own.values, own.out)
        )

    def keys(self, placed: torch.Tensor) -> torch.Tensor:
        """(L, C) image tokens with their positional encoding → (h, L, D)."""
        return split_heads(self._keys(placed), self._heads).contiguous()

    def values(self, image: torch.Tensor) -> torch.Tensor:
        """(L, C) image tokens → (h, L, D)."""
        return split_heads(self._values(image), self._heads).contiguous()

    def read(self, tokens: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """(N, T, C) tokens read the image's keys and values, (h, L, D) → (N, T, C)."""
        queries = split_heads(self._queries(tokens), self._heads)
        read = F.scaled_dot_product_attention(queries[None], keys[None], values[None], scale=1.0)[0]  # (h, NT, D)
        return self._out(read.transpose(0, 1).reshape(*tokens.shape[:2], -1))


class SharedImageToToken:
    """Image tokens that all prompts share read a prompt: they are the queries; its tokens are keys and values."""

    def __init__(self, attention: Attention, device: torch.device, dtype: torch.dtype) -> None:
        own = Projections.of(attention)
        self._heads = own.heads
        self._queries, self._keys = own.queries.to(device, dtype), own.keys.to(device, dtype)

    def queries(self, placed: torch.Tensor) -> torch.Tensor:
        """(L, C) image tokens with their positional encoding → (h, D, L)."""
        return split_heads(self._queries(placed), self._heads).transpose(1, 2).contiguous()

    def attend(self, queries: torch.Tensor, placed: torch.Tensor) -> torch.Tensor:
        """`read_shares` of the image's queries (h, D, L) in (N, T, C) tokens with positional encoding."""
        return read_shares(products_by_head(self._keys(placed), queries), placed.shape[1])
