"""The mask decoder of SAM and SAM 2, rearranged for thousands of prompts on one image.

Its answers equal the official `MaskDecoder`'s up to rounding, with less work:

- Until its first image-to-token attention a prompt sees the image's own tokens, so these are projected once for all
  prompts, and no prompt gets a copy of the image embedding.
- Later image tokens differ between prompts and are never projected, nor on a CPU even made (`own_image.py`).
- Up-scaling (`upscaling.py`) covers only the part of the image that is not padding, and only the three multimask
  outputs.

Symbols: N prompts, T tokens a prompt, L image tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from segment_anything.modeling import MaskDecoder
from segment_anything.modeling.transformer import TwoWayAttentionBlock

from everymask.backbone.sam.attention import SelfAttention, SharedImageToToken, SharedTokenToImage
from everymask.backbone.sam.dense_image import DenseLayers
from everymask.backbone.sam.factored_image import FactoredLayers
from everymask.backbone.sam.own_image import OwnLayers
from everymask.backbone.sam.upscaling import DenseUpscaling, FactoredUpscaling, Skips, Upscaling, UpscalingState

_MULTIMASK = slice(1, 4)
"""The multimask output's mask tokens. The first of the four, for unambiguous prompts, is not used."""
OUTSIDE = -100.0
"""Logits of masks that were not asked for."""
_OUTPUT_ROWS = (0, 2, 3, 4)
"""Output tokens whose final state is read: the IoU token and those of `_MULTIMASK`."""


@dataclass(frozen=True)
class ImageState:
    """What all prompts on one image share.

    Attributes:
        image: image tokens with the dense (no-mask) prompt added, in the decoder's form (`own_image.py`).
        keys, values: (h, L, D) of the first token-to-image attention.
        queries: (h, D, L) of the first image-to-token attention.
        upscaling: of the steps to masks.
    """

    image: Any
    keys: torch.Tensor
    values: torch.Tensor
    queries: torch.Tensor
    upscaling: UpscalingState


@dataclass(frozen=True)
class DecodedPrompts:
    """Answers to N prompts, in the decoder's precision; on a CPU the predicted IoU in fp32.

    Attributes:
        logits: (N, 3, 4 rows, 4 columns) float32 over the valid part of the token grid, or the part that was given.
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
        factored: bool | None = None,
    ) -> None:
        """Takes over `decoder` (fp32), which the caller must not use afterwards.

        Args:
            image_position: (C, S, S) fp32 positional encoding of the image tokens.
            first_token: (1, C), an output token before the decoder's own that is not read (SAM 2's object score).
            sigmoid_iou: apply a sigmoid to the predicted IoU, as in SAM 2.
            factored: which form later image tokens have (`own_image.py`); None: factored on a CPU.
        """
        position = image_position.flatten(1).t()
        self._position = position.to(device, dtype)
        self._grid = (int(image_position.shape[1]), int(image_position.shape[2]))
        transformer = decoder.transformer
        factored = device.type == "cpu" if factored is None else factored
        self._layers = [_Layer(block, device, dtype) for block in transformer.layers]
        first = transformer.layers[0]
        self._read_shared = SharedTokenToImage(first.cross_attn_token_to_image, device, dtype)
        self._attend_shared = SharedImageToToken(first.cross_attn_image_to_token, device, dtype)
        self._image: OwnLayers[Any]
        self._upscaling: Upscaling[Any]
        if factored:
            self._image = layers = FactoredLayers(transformer, position, device, dtype)
            self._upscaling = FactoredUpscaling(decoder.output_upscaling, device, dtype, layers.made)
        else:
            self._image = DenseLayers(transformer, position, device, dtype)
            self._upscaling = DenseUpscaling(decoder.output_upscaling, device, dtype)
        decoder.to(device, dtype)
        self._final_norm = transformer.norm_final_attn
        before = [] if first_token is None else [first_token.to(device, dtype)]
        self._output_tokens = torch.cat([*before, decoder.iou_token.weight, decoder.mask_tokens.weight])
        self._output_rows = torch.tensor([row + len(before) for row in _OUTPUT_ROWS]).to(device)
        self._hypernetworks = _Hypernetworks(list(decoder.output_hypernetworks_mlps)[_MULTIMASK])
        # In half precision many estimates would be equal; on a GPU that is accepted for an operation less.
        self._iou_dtype = torch.float32 if factored else dtype
        self._iou_head = decoder.iou_prediction_head.to(self._iou_dtype)
        self._sigmoid_iou = sigmoid_iou

    def prepare(
        self,
        tokens: torch.Tensor,
        valid_hw: tuple[int, int],
        skips: Skips | None = None,
    ) -> ImageState:
        """Compute what every prompt on this image needs.

        Args:
            tokens: (L, C) image tokens with the dense prompt added.
            valid_hw: (rows, columns) of the token grid to answer for.
            skips: features added while scaling up.
        """
        placed = tokens + self._position
        image = self._image.prepare(tokens)
        return ImageState(
            image=image,
            keys=self._read_shared.keys(placed),
            values=self._read_shared.values(tokens),
            queries=self._attend_shared.queries(placed),
            upscaling=self._upscaling.prepare(image, self._grid, valid_hw, skips),
        )

    def decode(
        self,
        state: ImageState,
        prompts: torch.Tensor,
        least_iou: float | None = None,
        logits: torch.Tensor | None = None,
    ) -> DecodedPrompts:
        """Answer N prompts of T tokens each, (N, T, C) from SAM's prompt encoder.

        Args:
            least_iou: prompts none of whose masks is predicted as well get no masks: logits are `OUTSIDE`.
            logits: (N, 3, H', W') float32 to write to, the upper left part of what can be answered.
        """
        position = torch.cat([self._output_tokens.expand(len(prompts), -1, -1), prompts], dim=1)
        # Prompt tokens start as their own positional encoding, and in the first layer all read the same image.
        first, *later = self._layers
        tokens = first.self_attend(position, position)
        tokens = first.think(tokens + self._read_shared.read(tokens + position, state.keys, state.values))
        attention = self._attend_shared.attend(state.queries, tokens + position)
        image = self._image.write(0, state.image, attention, tokens)
        for index, layer in enumerate(later, 1):
            tokens = layer.self_attend(tokens, position)
            tokens = layer.think(tokens + self._image.read(index, tokens + position, image))
            attention = self._image.attend(index, tokens + position, image)
            image = self._image.write(index, image, attention, tokens)
        tokens, position = (x.index_select(1, self._output_rows) for x in (tokens, position))
        tokens = self._final_norm(tokens + self._image.read(len(self._layers), tokens + position, image))
        mask_tokens = tokens[:, 1:]
        predicted_iou = self._iou_head(tokens[:, 0].to(self._iou_dtype))[:, _MULTIMASK]
        if self._sigmoid_iou:
            predicted_iou = predicted_iou.sigmoid()
        if logits is None:
            rows, columns = state.upscaling.first.valid_hw
            logits = torch.empty(len(prompts), 3, 4 * rows, 4 * columns, device=prompts.device)
        asked = list(range(len(prompts)))
        if least_iou is not None:
            sure = (predicted_iou >= least_iou).any(1)
            logits[~sure] = OUTSIDE
            asked = sure.nonzero().flatten().tolist()
        self._upscaling.fill(logits, image, self._hypernetworks(mask_tokens), state.upscaling, asked)
        return DecodedPrompts(logits=logits, predicted_iou=predicted_iou, tokens=mask_tokens)


class _Layer:
    """What a layer does with prompt tokens alone, (N, T, C)."""

    def __init__(self, block: TwoWayAttentionBlock, device: torch.device, dtype: torch.dtype) -> None:
        self._read_prompt = SelfAttention(block.self_attn, device, dtype)
        self._block = block

    def self_attend(self, tokens: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """They read each other."""
        block = self._block
        if block.skip_first_layer_pe:
            attended: torch.Tensor = block.norm1(self._read_prompt.alike(tokens))
        else:
            attended = block.norm1(tokens + self._read_prompt.placed(tokens, position))
        return attended

    def think(self, tokens: torch.Tensor) -> torch.Tensor:
        """The perceptron after they have read the image."""
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
