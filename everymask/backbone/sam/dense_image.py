"""Each prompt's own image tokens as they are: few operations, for a GPU.

No image token is projected: `q·(W_k x)` is `(W_kᵀ q)·x`, and `Σ a (W_v x)` is `W_v (Σ a x)`, so Th rows are projected
instead of L.

Symbols: N prompts, T tokens a prompt, L image tokens, C channels, h heads, D channels a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from segment_anything.modeling.transformer import Attention
from torch.nn import functional as F

from everymask.backbone.sam.attention import Linear, Projections, products_by_head, read_shares, split_heads
from everymask.backbone.sam.own_image import Enlarging


@dataclass(frozen=True)
class DenseImage:
    """Each prompt's own image tokens, or at first those that all share.

    Attributes:
        tokens: (N, L, C) or (L, C).
    """

    tokens: torch.Tensor

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
    """What layers and the final attention do with image tokens. See `OwnLayers`."""

    def __init__(self, transformer: Any, position: torch.Tensor, device: torch.device, dtype: torch.dtype) -> None:
        """`transformer` is SAM's, fp32; `position` (L, C) fp32. Keeps the transformer's norms, which the caller brings
        to their device and precision."""
        layers = list(transformer.layers)
        self._norms = [layer.norm4 for layer in layers]
        self._given = [_written(layer.cross_attn_image_to_token).to(device, dtype) for layer in layers]
        reading = [*(layer.cross_attn_token_to_image for layer in layers[1:]), transformer.final_attn_token_to_image]
        self._read = [_TokenToImage(attention, position, device, dtype) for attention in reading]
        self._attend = [_ImageToToken(layer.cross_attn_image_to_token, position, device, dtype) for layer in layers[1:]]

    def prepare(self, tokens: torch.Tensor) -> DenseImage:
        """See `OwnLayers`."""
        return DenseImage(tokens.contiguous())

    def read(self, layer: int, tokens: torch.Tensor, image: DenseImage) -> torch.Tensor:
        """See `OwnLayers`."""
        return self._read[layer - 1].read(tokens, image.tokens)

    def attend(self, layer: int, tokens: torch.Tensor, image: DenseImage) -> torch.Tensor:
        """See `OwnLayers`."""
        return self._attend[layer - 1].attend(tokens, image.tokens)

    def write(self, layer: int, image: DenseImage, attention: torch.Tensor, tokens: torch.Tensor) -> DenseImage:
        """See `OwnLayers`. `W_o W_v` is applied to the Th values, not to the L outputs."""
        values = self._given[layer](tokens).view(len(tokens), -1, tokens.shape[-1])  # (N, Th, C)
        read = attention.transpose(1, 2) @ values
        return DenseImage(self._norms[layer](read.add_(image.tokens)))


class _TokenToImage:
    """Prompt tokens read their prompt's own image tokens."""

    def __init__(self, attention: Attention, position: torch.Tensor, device: torch.device, dtype: torch.dtype) -> None:
        own = Projections.of(attention)
        self._queries = own.queries.to(device, dtype)
        # W_kᵀ W_q of each head, (hC, C).
        keys = own.by_head(own.keys.weight).transpose(1, 2)
        asked = keys @ own.by_head(own.queries.weight), keys @ own.queries.bias.view(own.heads, -1, 1)
        self._asked = Linear(asked[0].flatten(0, 1), asked[1].flatten()).to(device, dtype)
        # W_o W_v of each head side by side, (C, hC).
        written = _written(attention)
        each = written.weight.view(own.heads, -1, written.weight.shape[1])
        weight, bias = each.transpose(0, 1).flatten(1), written.bias.view(own.heads, -1).sum(0)
        self._out = Linear(weight, bias).to(device, dtype)
        # (h, D, L)
        keys = split_heads(F.linear(position, own.keys.weight.to(position.device)), own.heads)
        self._position_keys = keys.transpose(1, 2).contiguous().to(device, dtype)

    def read(self, tokens: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """(N, T, C) tokens with positional encoding, (N, L, C) image tokens → (N, T, C)."""
        prompts, count, channels = tokens.shape
        scores = products_by_head(self._queries(tokens), self._position_keys)  # (N, Th, L)
        scores = scores.baddbmm_(self._asked(tokens).view(prompts, -1, channels), image.transpose(1, 2))
        context = scores.softmax(-1) @ image  # (N, Th, C)
        return self._out(context.view(prompts, count, -1))


class _ImageToToken:
    """A prompt's own image tokens read its tokens."""

    def __init__(self, attention: Attention, position: torch.Tensor, device: torch.device, dtype: torch.dtype) -> None:
        own = Projections.of(attention)
        self._keys = own.keys.to(device, dtype)
        # W_qᵀ W_k of each head, (hC, C).
        asked = own.by_head(own.queries.weight).transpose(1, 2) @ own.by_head(own.keys.weight)
        self._asked = Linear(asked.flatten(0, 1), asked.new_zeros(asked.shape[0] * asked.shape[1])).to(device, dtype)
        queries = split_heads(own.queries.to(device, dtype)(position.to(device, dtype)), own.heads)
        self._position_queries = queries.transpose(1, 2).contiguous()  # (h, D, L)

    def attend(self, tokens: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """`read_shares` of (N, L, C) image tokens in (N, T, C) tokens with positional encoding."""
        scores = products_by_head(self._keys(tokens), self._position_queries)
        asked = self._asked(tokens).view(len(tokens), -1, tokens.shape[-1])
        return read_shares(scores.baddbmm_(asked, image.transpose(1, 2)), tokens.shape[1])


def _written(attention: Attention) -> Linear:
    """`W_o W_v` of each head, (hC, C), with its share of the bias: heads' attention sums to one each."""
    own = Projections.of(attention)
    out = own.by_head(own.out.weight.t())  # (h, D, C)
    weight = out.transpose(1, 2) @ own.by_head(own.values.weight)
    bias = (own.values.bias.view(own.heads, 1, -1) @ out)[:, 0] + own.out.bias / own.heads
    return Linear(weight.flatten(0, 1), bias.flatten())
