"""The mask decoder of SAM and SAM 2, rearranged for thousands of prompts on one image.

Its answers equal the official `MaskDecoder`'s up to rounding, with less work:

- Until its first image-to-token attention a prompt sees the image's own tokens, so these are projected once for all
  prompts, and no prompt gets a copy of the image embedding.
- Later image tokens differ between prompts and are never projected (`attention.py`).
- Up-scaling stays channel-last, where a 2x2 transposed convolution of stride 2 is a matrix product. It covers only the
  part of the image that is not padding, and only the three multimask outputs.

Symbols: N prompts, T tokens a prompt, L image tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import TwoWayAttentionBlock
from torch import nn
from torch.nn import functional as F

from everymask.backbone.sam.attention import ImageToToken, SelfAttention, TokenToImage

_MULTIMASK = slice(1, 4)
"""The multimask output's mask tokens. The first of the four, for unambiguous prompts, is not used."""
_OUTPUT_ROWS = (0, 2, 3, 4)
"""Output tokens whose final state is read: the IoU token and those of `_MULTIMASK`."""


@dataclass(frozen=True)
class ImageState:
    """What all prompts on one image share.

    Attributes:
        tokens: (L, C) image tokens with the dense (no-mask) prompt added.
        keys, values: (h, L, D) of the first token-to-image attention.
        queries: (h, D, L) of the first image-to-token attention.
        valid_hw: (rows, columns) of the token grid to answer for; the rest is padding.
        skips: finer image features for the up-scaling, in its layout; None if there are none.
    """

    tokens: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    queries: torch.Tensor
    valid_hw: tuple[int, int]
    skips: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass(frozen=True)
class DecodedPrompts:
    """Answers to N prompts, in the decoder's precision.

    Attributes:
        logits: (N, 3, 4 rows, 4 columns) over the valid part of the token grid.
        predicted_iou: (N, 3).
        tokens: (N, 3, C), mask tokens after the two-way transformer.
    """

    logits: torch.Tensor
    predicted_iou: torch.Tensor
    tokens: torch.Tensor


class PromptDecoder:
    """Prompt tokens → masks, on one image at a time. Stateless between calls."""

    def __init__(
        self,
        decoder: MaskDecoder,
        image_position: torch.Tensor,
        device: torch.device,
        dtype: torch.dtype,
        *,
        first_token: torch.Tensor | None = None,
        sigmoid_iou: bool = False,
    ) -> None:
        """Takes over `decoder` (fp32), which the caller must not use afterwards.

        Args:
            image_position: (C, S, S) fp32 positional encoding of the image tokens.
            first_token: (1, C), an output token before the decoder's own that is not read (SAM 2's object score).
            sigmoid_iou: apply a sigmoid to the predicted IoU, as in SAM 2.
        """
        position = image_position.flatten(1).t()
        self._position = position.to(device, dtype)
        self._grid = (int(image_position.shape[1]), int(image_position.shape[2]))
        transformer = decoder.transformer
        self._final_read = TokenToImage(transformer.final_attn_token_to_image, position, device, dtype)
        self._layers = [_Layer(block, position, device, dtype) for block in transformer.layers]
        self._upscaling = _Upscaling(decoder.output_upscaling, device, dtype)
        decoder.to(device, dtype)
        self._final_norm = transformer.norm_final_attn
        before = [] if first_token is None else [first_token.to(device, dtype)]
        self._output_tokens = torch.cat([*before, decoder.iou_token.weight, decoder.mask_tokens.weight])
        self._output_rows = torch.tensor([row + len(before) for row in _OUTPUT_ROWS]).to(device)
        self._hypernetworks = _Hypernetworks(list(decoder.output_hypernetworks_mlps)[_MULTIMASK])
        self._iou_head = decoder.iou_prediction_head
        self._sigmoid_iou = sigmoid_iou

    def prepare(
        self,
        tokens: torch.Tensor,
        valid_hw: tuple[int, int],
        skips: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> ImageState:
        """Compute what every prompt on this image needs.

        Args:
            tokens: (L, C) image tokens with the dense prompt added.
            valid_hw: (rows, columns) of the token grid to answer for.
            skips: features added after the first and second up-scaling step: (C/4, 2 rows, 2 columns) and (C/8, 4 rows,
                4 columns).
        """
        first = self._layers[0]
        placed = tokens + self._position
        return ImageState(
            tokens=tokens,
            keys=first.read_image.project_keys(placed),
            values=first.read_image.project_values(tokens),
            queries=first.write_image.project_queries(placed),
            valid_hw=valid_hw,
            skips=None if skips is None else self._upscaling.arrange(*skips),
        )

    def decode(self, state: ImageState, prompts: torch.Tensor) -> DecodedPrompts:
        """Answer N prompts of T tokens each, (N, T, C) from SAM's prompt encoder."""
        position = torch.cat([self._output_tokens.expand(len(prompts), -1, -1), prompts], dim=1)
        first, *later = self._layers
        tokens, image = first.shared(position, state)
        for layer in later:
            tokens, image = layer.own(tokens, position, image)
        tokens, position = (x.index_select(1, self._output_rows) for x in (tokens, position))
        tokens = self._final_norm(tokens + self._final_read.read(tokens + position, image))
        mask_tokens = tokens[:, 1:]
        rows, columns = state.valid_hw
        valid = image.view(-1, *self._grid, image.shape[-1])[:, :rows, :columns]
        predicted_iou = self._iou_head(tokens[:, 0])[:, _MULTIMASK]
        return DecodedPrompts(
            logits=self._upscaling.masks(valid, self._hypernetworks(mask_tokens), state.skips),
            predicted_iou=predicted_iou.sigmoid() if self._sigmoid_iou else predicted_iou,
            tokens=mask_tokens,
        )


class _Layer:
    def __init__(
        self, block: TwoWayAttentionBlock, image_position: torch.Tensor, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._read_prompt = SelfAttention(block.self_attn, device, dtype)
        self.read_image = TokenToImage(block.cross_attn_token_to_image, image_position, device, dtype)
        self.write_image = ImageToToken(block.cross_attn_image_to_token, image_position, device, dtype)
        self._block = block

    def shared(self, position: torch.Tensor, state: ImageState) -> tuple[torch.Tensor, torch.Tensor]:
        """The first layer: prompt tokens start as their own positional encoding (N, T, C), all on the same image.

        Returns (N, T, C) prompt tokens and (N, L, C) image tokens.
        """
        tokens = self._self_attend(position, position)
        tokens = tokens + self.read_image.read_shared(tokens + position, state.keys, state.values)
        tokens = self._think(tokens)
        image = self.write_image.update_shared(state.tokens, state.queries, tokens + position, tokens)
        return tokens, self._block.norm4(image)

    def own(
        self, tokens: torch.Tensor, position: torch.Tensor, image: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A later layer, as `shared` but with each prompt's own image tokens (N, L, C)."""
        tokens = self._self_attend(tokens, position)
        tokens = tokens + self.read_image.read(tokens + position, image)
        tokens = self._think(tokens)
        return tokens, self._block.norm4(self.write_image.update(image, tokens + position, tokens))

    def _self_attend(self, tokens: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        block = self._block
        if block.skip_first_layer_pe:
            attended: torch.Tensor = block.norm1(self._read_prompt.alike(tokens))
        else:
            attended = block.norm1(tokens + self._read_prompt.placed(tokens, position))
        return attended

    def _think(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = self._block.norm2(tokens)
        thought: torch.Tensor = self._block.norm3(tokens + self._block.mlp(tokens))
        return thought


class _Hypernetworks:
    """The three networks that make a mask token's filter, as one."""

    def __init__(self, networks: Sequence[Any]) -> None:
        """`networks` are on their device, in their precision."""
        self._layers = [
            (
                torch.stack([layer.weight.detach().t() for layer in layers]),
                torch.stack([layer.bias.detach()[None] for layer in layers]),
            )
            for layers in zip(*(network.layers for network in networks), strict=True)
        ]

    def __call__(self, mask_tokens: torch.Tensor) -> torch.Tensor:
        """(N, 3, C) → (N, 3, C/8) filters."""
        x = mask_tokens.transpose(0, 1)
        *hidden, (weight, bias) = self._layers
        for inner_weight, inner_bias in hidden:
            x = torch.baddbmm(inner_bias, x, inner_weight).relu_()
        return torch.baddbmm(bias, x, weight).transpose(0, 1)


class _Upscaling:
    """Two transposed convolutions, each followed by a skip, then the product with the hypernetworks' filters."""

    def __init__(self, layers: Iterable[Any], device: torch.device, dtype: torch.dtype) -> None:
        first, norm, _, second, _ = layers
        self._first = _as_linear(first, device, dtype)
        self._second = _as_linear(second, device, dtype)
        self._norm_weight: torch.Tensor = norm.weight.to(device, dtype)
        self._norm_bias: torch.Tensor = norm.bias.to(device, dtype)
        self._norm_eps: float = norm.eps
        self._same = torch.eye(4).view(4, 1, 4, 1).to(device, dtype)

    def arrange(self, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Skips (C/4, 2 rows, 2 columns) and (C/8, 4 rows, 4 columns) in the layout of their sums, with the
        convolution's bias: (rows columns, 4 C/4) and (rows columns 4, 4 C/8)."""
        rows, columns = first.shape[1] // 2, first.shape[2] // 2
        # From (channel, row, y, column, x), and with finer y and x.
        coarse = first.view(-1, rows, 2, columns, 2).permute(1, 3, 2, 4, 0)
        fine = second.view(-1, rows, 2, 2, columns, 2, 2).permute(1, 4, 2, 5, 3, 6, 0)
        return (
            coarse.reshape(rows * columns, -1) + self._first[1],
            fine.reshape(rows * columns * 4, -1) + self._second[1],
        )

    def masks(
        self, image: torch.Tensor, filters: torch.Tensor, skips: tuple[torch.Tensor, torch.Tensor] | None
    ) -> torch.Tensor:
        """Image tokens (N, rows, columns, C) and filters (N, 3, C/8) → logits (N, 3, 4 rows, 4 columns)."""
        prompts, rows, columns, channels = image.shape
        coarse, fine = skips or (None, None)
        # In place where the input is not needed again: on a CPU, touching fresh memory costs as much as the arithmetic.
        x = _enlarge(image.reshape(-1, channels), self._first, coarse).view(-1, len(self._norm_weight))
        x = F.layer_norm(x, x.shape[1:], self._norm_weight, self._norm_bias, self._norm_eps)
        x = torch.ops.aten.gelu_(x)
        x = torch.ops.aten.gelu_(_enlarge(x, self._second, fine))  # (N rows columns 4, 4 C/8)
        # Four sub-pixels at a time, against a block-diagonal matrix of filters: a wide product is a fast one.
        blocks = self._same * filters.transpose(1, 2)[:, None, :, None]  # (N, 4, C/8, 4, 3)
        logits = x.view(prompts, -1, x.shape[-1]) @ blocks.reshape(prompts, x.shape[-1], -1)
        # From (row, column, y, x, finer y, finer x, mask).
        logits = logits.view(prompts, rows, columns, 2, 2, 2, 2, -1).permute(0, 7, 1, 3, 5, 2, 4, 6)
        pixels: torch.Tensor = logits.reshape(prompts, -1, 4 * rows, 4 * columns)
        return pixels


def _enlarge(
    x: torch.Tensor, convolution: tuple[torch.Tensor, torch.Tensor], skip: torch.Tensor | None
) -> torch.Tensor:
    """(N M, Cin) pixels → (N M, 4 Cout) plus the bias, or plus a skip (M, 4 Cout) that includes it."""
    weight, bias = convolution
    if skip is None:
        return F.linear(x, weight, bias)
    enlarged = F.linear(x, weight)
    enlarged.view(-1, *skip.shape).add_(skip)
    return enlarged


def _as_linear(
    convolution: nn.ConvTranspose2d, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (4 Cout, Cin) and bias (4 Cout,) that map an input pixel to its 2x2 output pixels, row by row."""
    assert convolution.bias is not None
    weight = convolution.weight.permute(2, 3, 1, 0).reshape(-1, convolution.in_channels)
    return weight.to(device, dtype).contiguous(), convolution.bias.to(device, dtype).repeat(4)
