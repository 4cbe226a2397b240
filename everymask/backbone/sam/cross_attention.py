"""Attention between a prompt's few tokens and the image's many, without projecting image tokens per prompt.

Symbols: N prompts, T tokens a prompt, L image tokens, C channels, h heads, D channels a head. Rows of a prompt's scores
are ordered by token, then by head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from segment_anything.modeling.transformer import Attention
from torch.nn import functional as F


@dataclass(frozen=True)
class _Projections:
    """The weights of an official attention layer, with its 1/√D folded into the queries.

    A key's bias adds the same number to all scores of a softmax, so it is left out. Shapes: `q_weight`, `k_weight` and
    `v_weight` (hD, C); `q_bias` and `v_bias` (hD,); `out_weight` (C, hD); `out_bias` (C,).
    """

    heads: int
    q_weight: torch.Tensor
    q_bias: torch.Tensor
    k_weight: torch.Tensor
    v_weight: torch.Tensor
    v_bias: torch.Tensor
    out_weight: torch.Tensor
    out_bias: torch.Tensor

    @classmethod
    def of(cls, attention: Attention, device: torch.device, dtype: torch.dtype) -> _Projections:
        scale = (attention.internal_dim / attention.num_heads) ** -0.5
        weights = {
            "q_weight": attention.q_proj.weight * scale,
            "q_bias": attention.q_proj.bias * scale,
            "k_weight": attention.k_proj.weight,
            "v_weight": attention.v_proj.weight,
            "v_bias": attention.v_proj.bias,
            "out_weight": attention.out_proj.weight,
            "out_bias": attention.out_proj.bias,
        }
        return cls(attention.num_heads, **{name: w.to(device, dtype, copy=True) for name, w in weights.items()})

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(..., hD) → (h, M, D), the leading axes flattened to M."""
        return x.reshape(-1, self.heads, x.shape[-1] // self.heads).transpose(0, 1)

    def join(self, x: torch.Tensor, prompts: int) -> torch.Tensor:
        """(h, NT, D) → (N, T, hD)."""
        return x.transpose(0, 1).reshape(prompts, -1, self.heads * x.shape[-1])

    def rows(self, x: torch.Tensor, prompts: int) -> torch.Tensor:
        """(h, NT, X) → (N, Th, X)."""
        return x.transpose(0, 1).reshape(prompts, -1, x.shape[-1])

    def by_head(self, weight: torch.Tensor) -> torch.Tensor:
        """(hD, C) → (h, D, C)."""
        return weight.view(self.heads, -1, weight.shape[-1])


class TokenToImage:
    """Prompt tokens read the image: they are the queries; keys and values are image tokens."""

    def __init__(
        self, attention: Attention, image_position: torch.Tensor, device: torch.device, dtype: torch.dtype
    ) -> None:
        """`image_position` is the (L, C) positional encoding, which keys contain and values do not."""
        self._weights = _Projections.of(attention, device, dtype)
        self._position_keys = (
            self.project_keys(image_position.to(device, dtype)).transpose(1, 2).contiguous()
        )  # (h, D, L)

    def project_keys(self, image: torch.Tensor) -> torch.Tensor:
        """(L, C) image tokens → (h, L, D) keys, for `read_shared`."""
        return self._weights.split(F.linear(image, self._weights.k_weight)).contiguous()

    def project_values(self, image: torch.Tensor) -> torch.Tensor:
        """(L, C) image tokens → (h, L, D) values, for `read_shared`."""
        return self._weights.split(F.linear(image, self._weights.v_weight, self._weights.v_bias)).contiguous()

    def read_shared(self, tokens: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """(N, T, C) tokens read one image whose keys and values (h, L, D) are projected once → (N, T, C)."""
        weights = self._weights
        queries = weights.split(F.linear(tokens, weights.q_weight, weights.q_bias))
        read = F.scaled_dot_product_attention(queries[None], keys[None], values[None], scale=1.0)[0]  # (h, NT, D)
        return F.linear(weights.join(read, len(tokens)), weights.out_weight, weights.out_bias)

    def read(self, tokens: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """(N, T, C) tokens read their prompt's own image tokens (N, L, C) → (N, T, C).

        `q·(W_k x)` is `(W_kᵀ q)·x`, and `Σ a (W_v x)` is `W_v (Σ a x)`: Th rows are projected instead of L.
        """
        weights, prompts = self._weights, len(tokens)
        queries = weights.split(F.linear(tokens, weights.q_weight, weights.q_bias))  # (h, NT, D)
        scores = weights.rows(queries @ self._position_keys, prompts)  # (N, Th, L)
        scores.baddbmm_(weights.rows(queries @ weights.by_head(weights.k_weight), prompts), image.transpose(1, 2))
        context = scores.softmax(-1) @ image  # (N, Th, C)
        context = context.view(-1, weights.heads, context.shape[-1]).transpose(0, 1)  # (h, NT, C)
        read = weights.join(context @ weights.by_head(weights.v_weight).transpose(1, 2), prompts)
        return F.linear(read + weights.v_bias, weights.out_weight, weights.out_bias)


class ImageToToken:
    """Image tokens read the prompt: they are the queries; keys and values are prompt tokens."""

    def __init__(
        self, attention: Attention, image_position: torch.Tensor, device: torch.device, dtype: torch.dtype
    ) -> None:
        """`image_position` is the (L, C) positional encoding, which queries contain."""
        self._weights = _Projections.of(attention, device, dtype)
        self._position_queries = self.project_queries(image_position.to(device, dtype))

    def project_queries(self, image: torch.Tensor) -> torch.Tensor:
        """(L, C) image tokens → (h, D, L) queries, for `update_shared`."""
        weights = self._weights
        return weights.split(F.linear(image, weights.q_weight, weights.q_bias)).transpose(1, 2).contiguous()

    def update_shared(
        self, image: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """One image's tokens (L, C), with queries (h, D, L), plus what they read from each prompt → (N, L, C).

        `keys` and `values` are (N, T, C) prompt tokens with and without positional encoding.
        """
        scores = self._weights.rows(self._project_keys(keys) @ queries, len(keys))
        return self._write(scores, values).add_(image)

    def update(self, image: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """As `update_shared`, for each prompt's own image tokens (N, L, C)."""
        weights, prompts = self._weights, len(keys)
        projected = self._project_keys(keys)
        scores = weights.rows(projected @ self._position_queries, prompts)  # (N, Th, L)
        scores.baddbmm_(weights.rows(projected @ weights.by_head(weights.q_weight), prompts), image.transpose(1, 2))
        return self._write(scores, values).add_(image)

    def _project_keys(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._weights.split(F.linear(tokens, self._weights.k_weight))  # (h, NT, D)

    def _write(self, scores: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Attention by scores (N, Th, L) over the values of tokens (N, T, C) → (N, L, C).

        `W_o` is applied to the Th values, not to the L outputs.
        """
        weights, (prompts, count, _) = self._weights, tokens.shape
        attention = scores.view(prompts, count, -1).softmax(1).view_as(scores)
        values = weights.split(F.linear(tokens, weights.v_weight, weights.v_bias))
        # Each head's attention sums to one, so the h shares of the output's bias add up to it.
        written = values @ weights.by_head(weights.out_weight.t()) + weights.out_bias / weights.heads
        return attention.transpose(1, 2) @ weights.rows(written, prompts)
