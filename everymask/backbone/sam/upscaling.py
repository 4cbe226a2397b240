"""From image tokens to masks: two transposed convolutions, each with a skip, and the hypernetworks' filters.

A 2x2 transposed convolution of stride 2 is a matrix product. `DenseUpscaling` keeps channels last and takes all prompts
at once, for a GPU. `FactoredUpscaling` takes one prompt at a time, which a core's cache likes best, and keeps channels
first: factored tokens come so, a norm over 64 channels is a few operations on long rows, and masks need little sorting.

Symbols: N prompts, C channels, M image tokens that are not padding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from everymask.backbone.sam.dense_image import DenseImage
from everymask.backbone.sam.factored_image import FactoredImage, Made
from everymask.backbone.sam.own_image import Enlarging

Skips = tuple[torch.Tensor, torch.Tensor]
"""Features added after the first and second step: (C/4, 2 rows, 2 columns) and (C/8, 4 rows, 4 columns)."""


@dataclass(frozen=True)
class UpscalingState:
    """What all prompts on one image share.

    Attributes:
        first: of the first step.
        rest: what the second step adds: its bias, with the image's features if it has a skip. (4 C/8,) or, with the
            skip, (4 M, 4 C/8); for `FactoredUpscaling` (4, 4 C/8, 1) or (4, 4 C/8, M).
    """

    first: Enlarging
    rest: torch.Tensor


Image = TypeVar("Image", contravariant=True)


class Upscaling(Protocol[Image]):
    """From image tokens in one form to masks."""

    def prepare(
        self, image: Image, grid_hw: tuple[int, int], valid_hw: tuple[int, int], skips: Skips | None
    ) -> UpscalingState:
        """What all prompts on an image share, from its tokens before the first layer."""
        ...

    def fill(
        self, logits: torch.Tensor, image: Image, filters: torch.Tensor, state: UpscalingState, asked: list[int]
    ) -> None:
        """Write the masks of the prompts in `asked`, (N, 3, H', W'), for filters (N, 3, C/8)."""
        ...


class _Weights:
    """Weights and biases of both steps in fp32, (4 Cout, Cin) and (4 Cout,), and the norm between them."""

    def __init__(self, layers: Iterable[Any]) -> None:
        first, norm, _, second, _ = layers
        self.first, self.second = _as_linear(first), _as_linear(second)
        self.gain: torch.Tensor = norm.weight.detach()
        self.bias: torch.Tensor = norm.bias.detach()
        self.eps: float = norm.eps


class DenseUpscaling:
    """For `DenseImage`; see `Upscaling`."""

    def __init__(self, layers: Iterable[Any], device: torch.device, dtype: torch.dtype) -> None:
        own = _Weights(layers)
        self._first, self._second = (
            (weight.to(device, dtype), bias.to(device, dtype)) for weight, bias in (own.first, own.second)
        )
        self._gain, self._bias, self._eps = own.gain.to(device, dtype), own.bias.to(device, dtype), own.eps
        self._same = torch.eye(4).view(4, 1, 4, 1).to(device, dtype)

    def prepare(
        self, image: DenseImage, grid_hw: tuple[int, int], valid_hw: tuple[int, int], skips: Skips | None
    ) -> UpscalingState:
        """See `Upscaling`."""
        weight, rest = self._first
        second = self._second[1]
        if skips is not None:
            coarse, fine = _by_pixel(skips, valid_hw)
            rest, second = coarse.flatten(1) + rest, fine.flatten(2).flatten(0, 1) + second
        return UpscalingState(Enlarging(weight, rest, None, grid_hw, valid_hw), second)

    def fill(
        self, logits: torch.Tensor, image: DenseImage, filters: torch.Tensor, state: UpscalingState, asked: list[int]
    ) -> None:
        """See `Upscaling`."""
        (height, width), everyone = logits.shape[2:], len(asked) == len(filters)
        for prompts in [slice(None)] if everyone else [slice(one, one + 1) for one in asked]:
            logits[prompts] = self._masks(image.of(prompts), filters[prompts], state)[..., :height, :width]

    def _masks(self, image: DenseImage, filters: torch.Tensor, state: UpscalingState) -> torch.Tensor:
        prompts, (rows, columns) = len(filters), state.first.valid_hw
        # In place where the input is not needed again.
        x = image.enlarge(state.first).view(-1, len(self._gain))
        x = torch.ops.aten.gelu_(F.layer_norm(x, x.shape[1:], self._gain, self._bias, self._eps))
        weight = self._second[0]
        if state.rest.dim() == 1:
            x = F.linear(x, weight, state.rest)
        else:
            x = F.linear(x, weight)
            x.view(-1, *state.rest.shape).add_(state.rest)
        x = torch.ops.aten.gelu_(x)  # (N rows columns 4, 4 C/8)
        # Four sub-pixels at a time, against a block-diagonal matrix of filters: a wide product is a fast one.
        blocks = self._same * filters.transpose(1, 2)[:, None, :, None]  # (N, 4, C/8, 4, 3)
        logits = x.view(prompts, -1, x.shape[-1]) @ blocks.reshape(prompts, x.shape[-1], -1)
        order = _pixel_order(rows, columns, logits.device)
        pixels: torch.Tensor = logits.flatten(1).index_select(1, order).view(prompts, 3, 4 * rows, 4 * columns)
        return pixels


class FactoredUpscaling:
    """For `FactoredImage`; see `Upscaling`. Planes are the first step's four sub-pixels, each with its channels."""

    def __init__(self, layers: Iterable[Any], device: torch.device, dtype: torch.dtype, made: Made) -> None:
        own = _Weights(layers)
        weight, bias = own.first
        bias = bias + weight @ made.lacking.to(weight.device)
        # A norm takes the mean away, which is a linear map.
        self._first, self._first_bias = (_centred(x).to(device, dtype) for x in (weight, bias[:, None]))
        self._rows = [rows.to(device, dtype) for rows in made.mapped(_centred(weight))]
        weight, bias = own.second
        self._second, self._second_bias = weight.to(device, dtype), bias.to(device, dtype)[:, None]
        channels = len(own.gain)
        self._gain = own.gain.to(device, dtype).view(1, channels, 1)
        self._bias = own.bias.to(device, dtype).view(channels, 1).repeat(4, 1)
        self._eps = own.eps
        self._same = torch.eye(4).view(4, 1, 4, 1).to(device, dtype)

    def prepare(
        self, image: FactoredImage, grid_hw: tuple[int, int], valid_hw: tuple[int, int], skips: Skips | None
    ) -> UpscalingState:
        """See `Upscaling`."""
        rest, second = self._first_bias, self._second_bias.expand(4, -1, -1)
        if skips is not None:
            coarse, fine = _by_pixel(skips, valid_hw)
            rest = _centred(coarse.flatten(1).t()) + rest
            second = (fine.flatten(2).permute(1, 2, 0) + second).contiguous()
        rows, columns = valid_hw
        tokens = torch.unflatten(image.shared.tokens, 0, grid_hw)[:rows, :columns].flatten(0, 1)
        first = Enlarging(self._first, rest, self._first @ tokens.t(), grid_hw, valid_hw)
        return UpscalingState(first, second)

    def fill(
        self, logits: torch.Tensor, image: FactoredImage, filters: torch.Tensor, state: UpscalingState, asked: list[int]
    ) -> None:
        """See `Upscaling`."""
        rows, columns = state.first.valid_hw
        # Row, y, finer y, column, x, finer x.
        pixels = logits.new_empty(3, rows, 2, 2, columns, 2, 2)
        blocks = (self._same * filters[:, None, :, None].transpose(2, 4)).permute(0, 3, 4, 1, 2)
        blocks = blocks.reshape(len(filters), 12, -1)  # (N, finer y and x and mask, 4 C/8)
        tokens = torch.cat(image.rows(self._rows), dim=1).transpose(1, 2).contiguous()  # (N, C, kR)
        for prompt in asked:
            planes = self._planes(image.enlarge(prompt, tokens[prompt], state.first), state)
            found = (blocks[prompt].expand(4, -1, -1) @ planes).view(2, 2, 2, 2, 3, rows, columns)
            # A copy for each place within a token: one of all would copy two numbers at a time.
            for x in range(2):
                for finer in range(2):
                    pixels[..., x, finer] = found[:, x, :, finer].permute(2, 3, 0, 1, 4)
            logits[prompt] = pixels.view(3, 4 * rows, 4 * columns)[:, : logits.shape[2], : logits.shape[3]]

    def _planes(self, x: torch.Tensor, state: UpscalingState) -> torch.Tensor:
        """(C, M) of one prompt after the first step → (4, 4 C/8, M). In place: touching fresh memory costs as much as
        the arithmetic."""
        variance = x.square().view(4, -1, x.shape[1]).sum(1, keepdim=True).div_(self._gain.shape[1])  # (4, 1, M)
        scale = (self._gain * variance.add_(self._eps).rsqrt_()).view_as(x)
        x = torch.ops.aten.gelu_(torch.addcmul(self._bias, x, scale, out=scale))
        planes = self._second.expand(4, -1, -1) @ x.view(4, -1, x.shape[1])
        filled: torch.Tensor = torch.ops.aten.gelu_(planes.add_(state.rest))
        return filled


def _centred(x: torch.Tensor) -> torch.Tensor:
    """(4 C', X) without the mean over the C' channels of each sub-pixel."""
    four = x.view(4, -1, x.shape[-1])
    return (four - four.mean(1, keepdim=True)).view_as(x)


def _by_pixel(skips: Skips, valid_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(M, 4, C/4) and (M, 4, 4, C/8): skips by token, by the first step's sub-pixel, by the second's."""
    rows, columns = valid_hw
    coarse = skips[0][:, : 2 * rows, : 2 * columns].reshape(-1, rows, 2, columns, 2)
    fine = skips[1][:, : 4 * rows, : 4 * columns].reshape(-1, rows, 2, 2, columns, 2, 2)
    # From (channel, row, y, column, x), and with finer y and x.
    by_token = coarse.permute(1, 3, 2, 4, 0).flatten(0, 1).flatten(1, 2)
    return by_token, fine.permute(1, 4, 2, 5, 3, 6, 0).flatten(0, 1).flatten(1, 2).flatten(2, 3)


@lru_cache(maxsize=16)
def _pixel_order(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """Where an image of (3, 4 rows, 4 columns) finds its pixels: they come by row, column, y, x, finer y and x, mask.

    By an index, since a permutation of axes of two copies such small pieces many times as slowly.
    """
    with torch.inference_mode(False):
        index = torch.arange(48 * rows * columns, dtype=torch.int32, device=device)
        return index.view(rows, columns, 2, 2, 2, 2, 3).permute(6, 0, 2, 4, 1, 3, 5).flatten()


def _as_linear(convolution: nn.ConvTranspose2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (4 Cout, Cin) and bias (4 Cout,) that map an input pixel to its 2x2 output pixels, row by row."""
    assert convolution.bias is not None
    weight = convolution.weight.detach().permute(2, 3, 1, 0).reshape(-1, convolution.in_channels)
    return weight.contiguous(), convolution.bias.detach().repeat(4)
