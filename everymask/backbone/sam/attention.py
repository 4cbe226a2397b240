"""The prompt decoder's attention; that between a prompt's few tokens and the image's many projects no image tokens per
prompt.

Linear maps that follow each other are one, made when the weights are loaded: a GPU is asked for fewer, larger products.

Symbols: N prompts, T tokens a prompt, L image tokens, C channels, h heads, D channels a head. Rows of a prompt's scores
are ordered by token, then by head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling.transformer import Attention
from torch.nn import functional as F

from everymask.backbone.sam.own_image import OwnImage


@dataclass(frozen=True)
class Linear:
    """Weight (to, from) and bias (to,)."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)

    def to(self, device: torch.device, dtype: torch.dtype) -> Linear:
        """A copy that takes no gradients."""
        weight, bias = (x.detach().to(device, dtype, copy=True) for x in (self.weight, self.bias))
        return Linear(weight, bias)


@dataclass(frozen=True)
class _Projections:
    """The weights of an official attention layer in fp32, with its 1/√D folded into the queries.

    A key's bias adds the same number to all scores of a softmax, so it is zero here. Shapes: `queries`, `keys` and
    `values` (hD, C), `out` (C, hD).
    """

    heads: int
    queries: Linear
    keys: Linear
    values: Linear
    out: Linear

    @classmethod
    def of(cls, attention: Attention) -> _Projections:
        scale = (attention.internal_dim / attention.num_heads) ** -0.5
        return cls(
            attention.num_heads,
            queries=Linear(attention.q_proj.weight * scale, attention.q_proj.bias * scale),
            keys=Linear(attention.k_proj.weight, torch.zeros_like(attention.k_proj.bias)),
            values=Linear(attention.v_proj.weight, attention.v_proj.bias),
            out=Linear(attention.out_proj.weight, attention.out_proj.bias),
        )

    def by_head(self, weight: torch.Tensor) -> torch.Tensor:
        """(hD, X) → (h, D, X)."""
        return weight.view(self.heads, -1, weight.shape[-1])

    def written(self) -> Linear:
        """`W_o W_v` of each head, (hC, C), with its share of the bias: heads' attention sums to one each."""
        out = self.by_head(self.out.weight.t())  # (h, D, C)
        weight = out.transpose(1, 2) @ self.by_head(self.values.weight)
        bias = (self.values.bias.view(self.heads, 1, -1) @ out)[:, 0] + self.out.bias / self.heads
        return Linear(weight.flatten(0, 1), bias.flatten())


def _split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(..., hD) → (h, M, D), the leading axes flattened to M."""
    return x.reshape(-1, heads, x.shape[-1] // heads).transpose(0, 1)


def _scores(tokens: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Products of tokens (N, T, hD) and image tokens (h, D, L) head by head → (N, Th, L)."""
    heads, _, length = image.shape
    by_head = _split(tokens, heads)
    if tokens.device.type != "cpu":
        return (by_head @ image).transpose(0, 1).reshape(len(tokens), -1, length)
    # Written where they belong: sorting them afterwards would take as long.
    scores = tokens.new_empty(by_head.shape[1], heads, length)
    for head in range(heads):
        torch.mm(by_head[head], image[head], out=scores[:, head])
    return scores.view(len(tokens), -1, length)


class SelfAttention:
    """A prompt's tokens read each other."""

    def __init__(self, attention: Attention, device: torch.device, dtype: torch.dtype) -> None:
        own = _Projections.of(attention)
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


class TokenToImage:
    """Prompt tokens read the image: they are the queries; keys and values are image tokens."""

    def __init__(
        self,
        attention: Attention,
        image_position: torch.Tensor,
        device: torch.device,
        dtype: torch.dtype,
        offset: torch.Tensor | None = None,
    ) -> None:
        """`image_position` is the (L, C) positional encoding, which keys contain and values do not; `offset` (C,) is
        what an `OwnImage` lacks. In keys it adds the same number to all scores of a softmax."""
        own = _Projections.of(attention)
        self._heads = own.heads
        self._queries, self._keys, self._values, self._out = (
            linear.to(device, dtype) for linear in (own.queries, own.keys, own.values, own.out)
        )
        # W_kᵀ W_q of each head, (hC, C).
        keys = own.by_head(own.keys.weight).transpose(1, 2)
        asked = keys @ own.by_head(own.queries.weight), keys @ own.queries.bias.view(own.heads, -1, 1)
        self._asked = Linear(asked[0].flatten(0, 1), asked[1].flatten()).to(device, dtype)
        # W_o W_v of each head side by side, (C, hC).
        written = own.written()
        by_head = written.weight.view(own.heads, -1, written.weight.shape[1])
        weight, bias = by_head.transpose(0, 1).flatten(1), written.bias.view(own.heads, -1).sum(0)
        if offset is not None:
            bias = bias + weight @ offset.to(weight.device).repeat(own.heads)
        self._read = Linear(weight, bias).to(device, dtype)
        # (h, D, L)
        position = _split(F.linear(image_position, own.keys.weight.to(image_position.device)), own.heads)
        self._position_keys = position.transpose(1, 2).contiguous().to(device, dtype)

    def project_keys(self, image: torch.Tensor) -> torch.Tensor:
        """(L, C) image tokens → (h, L, D) keys, for `read_shared`."""
        return _split(self._keys(image), self._heads).contiguous()

    def project_values(self, image: torch.Tensor) -> torch.Tensor:
        """(L, C) image tokens → (h, L, D) values, for `read_shared`."""
        return _split(self._values(image), self._heads).contiguous()

    def read_shared(self, tokens: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """(N, T, C) tokens read one image whose keys and values (h, L, D) are projected once → (N, T, C)."""
        queries = _split(self._queries(tokens), self._heads)
        read = F.scaled_dot_product_attention(queries[None], keys[None], values[None], scale=1.0)[0]  # (h, NT, D)
        return self._out(read.transpose(0, 1).reshape(*tokens.shape[:2], -1))

    def read(self, tokens: torch.Tensor, image: OwnImage) -> torch.Tensor:
        """(N, T, C) tokens read their prompt's own image tokens → (N, T, C).

        `q·(W_k x)` is `(W_kᵀ q)·x`, and `Σ a (W_v x)` is `W_v (Σ a x)`: Th rows are projected instead of L.
        """
        prompts, count, channels = tokens.shape
        scores = _scores(self._queries(tokens), self._position_keys)  # (N, Th, L)
        scores = image.add_products(scores, self._asked(tokens).view(prompts, -1, channels))
        context = image.mix(scores.softmax(-1))  # (N, Th, C)
        return self._read(context.view(prompts, count, -1))


class ImageToToken:
    """Image tokens read the prompt: they are the queries; keys and values are prompt tokens."""

    def __init__(
        self,
        attention: Attention,
        image_position: torch.Tensor,
        device: torch.device,
        dtype: torch.dtype,
        offset: torch.Tensor | None = None,
    ) -> None:
        """`image_position` is the (L, C) positional encoding, which queries contain; `offset` as in `TokenToImage`."""
        own = _Projections.of(attention)
        self._heads = own.heads
        self._queries, self._keys = own.queries.to(device, dtype), own.keys.to(device, dtype)
        # W_qᵀ W_k of each head, (hC, C).
        asked = own.by_head(own.queries.weight).transpose(1, 2) @ own.by_head(own.keys.weight)
        self._asked = Linear(asked.flatten(0, 1), asked.new_zeros(asked.shape[0] * asked.shape[1])).to(device, dtype)
        written, place = own.written(), image_position
        if offset is not None:
            # An image token's own offset is read with the values: a head's attention sums to one.
            whole = offset.to(written.bias.device)
            written = Linear(written.weight, written.bias + (whole / own.heads).repeat(own.heads))
            place = image_position + offset.to(image_position.device)
        self._written = written.to(device, dtype)
        self._position_queries = self.project_queries(place.to(device, dtype))

    def project_queries(self, image: torch.Tensor) -> torch.Tensor:
        """(L, C) image tokens → (h, D, L) queries, for `read_shared`."""
        return _split(self._queries(image), self._heads).transpose(1, 2).contiguous()

    def read_shared(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """How much one image's tokens, with queries (h, D, L), read of each prompt token: (N, Th, L), 1 for each head.

        `keys` are (N, T, C) prompt tokens with positional encoding.
        """
        return self._attention(_scores(self._keys(keys), queries), keys.shape[1])

    def read(self, image: OwnImage, keys: torch.Tensor) -> torch.Tensor:
        """As `read_shared`, for each prompt's own image tokens."""
        scores = _scores(self._keys(keys), self._position_queries)
        scores = image.add_products(scores, self._asked(keys).view(len(keys), -1, keys.shape[-1]))
        return self._attention(scores, keys.shape[1])

    def values(self, tokens: torch.Tensor) -> torch.Tensor:
        """(N, T, C) prompt tokens → (N, Th, C): what an image token that reads them is given.

        `W_o W_v` is applied to the Th values, not to the L outputs.
        """
        return self._written(tokens).view(len(tokens), -1, tokens.shape[-1])

    @staticmethod
    def _attention(scores: torch.Tensor, tokens: int) -> torch.Tensor:
        return scores.view(len(scores), tokens, -1).softmax(1).view_as(scores)
