"""The prompt decoder of `nano`: a transformer over cells, then SAM's two-way decoder with a stream of cells per
prompt."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from everymask.backbone.nano.encoder import same_segment
from everymask.backbone.nano.tokens import CENTRE, COLOUR, LOG_SHARE, SHAPE_NUMBERS, TREE_PLANES, CellTokens
from everymask.backbone.protocol import MASKS_PER_PROMPT

RELATIVE_NUMBERS = 15
"""Pairwise numbers computed from descriptors, besides the `TREE_PLANES`."""
SUMMARY_NUMBERS = 8
"""Inputs of predicted IoU besides tokens and stream: size, certainty, stability, border, coherence."""


@dataclass(frozen=True)
class DecoderConfig:
    feature_channels: tuple[int, ...] = (24, 48, 120, 352, 24)
    """Channels of the trunk's strides 4 to 32 and of the groups, in the order of the cell features."""
    width: int = 160
    """Channels per cell in the image transformer."""
    layers: int = 3
    """Layers of the image transformer."""
    heads: int = 5
    """Attention heads of the image transformer."""
    stream: int = 64
    """Channels per cell in a prompt's own stream."""
    token: int = 128
    """C, channels of an output token."""
    blocks: int = 2
    """Two-way blocks."""


class CellContext(NamedTuple):
    """An image encoded once for all prompts. All batched.

    Attributes:
        cells: (B, P, width) float, cells after the image transformer.
        area: (B, P) float, share of the canvas; 0 for padding.
        borders: (B, 4, P, P) float, see `border_planes`.
    """

    tokens: CellTokens
    cells: torch.Tensor
    area: torch.Tensor
    borders: torch.Tensor


class DecoderOutput(NamedTuple):
    """(B, N, 3, P) mask logits, (B, N, 3) predicted IoU in [0, 1], (B, N, 3, C) mask tokens."""

    logits: torch.Tensor
    predicted_iou: torch.Tensor
    tokens: torch.Tensor


def pair_numbers(
    tokens: CellTokens, area: torch.Tensor, prompts: torch.Tensor | None, channels: tuple[int, ...]
) -> torch.Tensor:
    """Features of every pair (prompted cell, other cell).

    Args:
        tokens: batched.
        area: (B, P) share of the canvas; 0 for padding.
        prompts: (B, N) int64 cells; None for all.
        channels: number of channels of each encoder stride in `tokens.features`.

    Returns:
        (B, N, P, RELATIVE_NUMBERS + TREE_PLANES) float32, about [-2, 2].
    """
    rows = None if prompts is None else torch.arange(len(prompts), device=prompts.device)[:, None]

    def own(values: torch.Tensor) -> torch.Tensor:
        return values if rows is None else values[rows, prompts]

    shape = tokens.shape
    offset = shape[:, None, :, CENTRE] - own(shape)[:, :, None, CENTRE]
    distance = offset.square().sum(-1).add(1e-8).sqrt()
    colour_distance = torch.cdist(
        own(shape)[..., COLOUR], shape[..., COLOUR], compute_mode="donot_use_mm_for_euclid_dist"
    )
    lightness = (shape[:, None, :, 0] - own(shape)[:, :, None, 0]).abs()
    numbers = [offset[..., 0], offset[..., 1], offset[..., 0].abs(), offset[..., 1].abs(), distance]
    numbers += [colour_distance, torch.exp(-3 * colour_distance), lightness]
    numbers += [(shape[:, None, :, LOG_SHARE] / 5 + 1).expand_as(distance)]
    for part in torch.split(tokens.features.float(), list(channels), dim=-1):
        unit = functional.normalize(part - area[:, None] @ part, dim=-1)
        numbers.append(own(unit) @ unit.transpose(-1, -2))
    groups = tokens.features[..., -channels[-1] :].float()
    apart = torch.cdist(own(groups), groups, compute_mode="donot_use_mm_for_euclid_dist").square()
    numbers.append(same_segment(apart).sigmoid())
    planes = tokens.planes if rows is None else tokens.planes.transpose(1, 2)[rows, prompts].transpose(1, 2)
    return torch.cat([torch.stack(numbers, dim=-1), planes.movedim(1, -1).float() / 255], dim=-1)


def border_planes(tokens: CellTokens, area: torch.Tensor, channels: tuple[int, ...]) -> torch.Tensor:
    """Features of every pair of cells from which mask scores are predicted. Arguments as in `pair_numbers`.

    Returns:
        (B, 4, P, P) float32 in [0, 1]: whether the two touch; the learned boundary between them, if they do; the
            probability that they belong to one segment, if they do; and that probability times the area of both.
    """
    touching = tokens.planes[:, -1].float() / 255
    touch = (touching > 0).float()
    groups = tokens.features[..., -channels[-1] :].float()
    apart = torch.cdist(groups, groups, compute_mode="donot_use_mm_for_euclid_dist").square()
    same = same_segment(apart).sigmoid()
    share = area[:, :, None] * area[:, None]
    return torch.stack([touch, touch * (2 - 2 * touching), touch * same, same * share], dim=1)


def _mlp(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for first, second in pairwise(sizes):
        layers += [nn.Linear(first, second), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class _CellLayer(nn.Module):
    """A pre-norm transformer layer whose attention is biased by pairwise numbers."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = _mlp([width, 2 * width, width])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        batch, cells, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(batch, cells, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, cells, width)))
        update: torch.Tensor = self.dropout(self.mlp(self.norm_mlp(x)))
        return x + update


class _TwoWayBlock(nn.Module):
    """SAM's two-way block with a narrow stream: tokens attend to each other and the cells, cells to the tokens."""

    def __init__(self, token: int, stream: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm_self, self.norm_cross, self.norm_mlp = (nn.LayerNorm(token) for _ in range(3))
        self.self_qkv, self.self_out = nn.Linear(token, 3 * token), nn.Linear(token, token)
        self.norm_stream = nn.LayerNorm(stream)
        self.read_q, self.read_kv, self.read_out = (
            nn.Linear(token, stream),
            nn.Linear(stream, 2 * stream),
            nn.Linear(stream, token),
        )
        self.mlp = _mlp([token, 2 * token, token])
        self.norm_write = nn.LayerNorm(token)
        self.write_q, self.write_kv, self.write_out = (
            nn.Linear(stream, stream // 2),
            nn.Linear(token, stream // 2 + stream),
            nn.Linear(stream, stream),
        )
        self.norm_stream_mlp = nn.LayerNorm(stream)
        self.stream_mlp = _mlp([stream, 2 * stream, stream])

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(-3, -2)

    def _attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        mixed = functional.scaled_dot_product_attention(self._split(q), self._split(k), self._split(v), attn_mask=mask)
        return mixed.transpose(-3, -2).flatten(-2)

    def _attend_to_few(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """`_attend` for many queries and few keys: keys come first, so that the softmax runs along cells."""
        q, k, v = self._split(q), self._split(k), self._split(v)
        weights = (k @ q.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-2)
        mixed: torch.Tensor = weights.transpose(-1, -2) @ v
        return mixed.transpose(-3, -2).flatten(-2)

    def forward(
        self, tokens: torch.Tensor, stream: torch.Tensor, present: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Update tokens (M, T, token) and stream (M, P, stream); `present` (M, 1, 1, P) is the additive mask of padded
        cells."""
        q, k, v = self.self_qkv(self.norm_self(tokens)).chunk(3, dim=-1)
        tokens = tokens + self.self_out(self._attend(q, k, v))
        cells = self.norm_stream(stream)
        k, v = self.read_kv(cells).chunk(2, dim=-1)
        tokens = tokens + self.read_out(self._attend(self.read_q(self.norm_cross(tokens)), k, v, present))
        tokens = tokens + self.mlp(self.norm_mlp(tokens))
        k, v = self.write_kv(self.norm_write(tokens)).split([stream.shape[-1] // 2, stream.shape[-1]], dim=-1)
        stream = stream + self.write_out(self._attend_to_few(self.write_q(cells), k, v))
        stream = stream + self.stream_mlp(self.norm_stream_mlp(stream))
        return tokens, stream


class PromptDecoder(nn.Module):
    """Cells and prompted cells → three masks each, their predicted IoU and tokens."""

    def __init__(self, config: DecoderConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        width, stream, token = config.width, config.stream, config.token
        pair = RELATIVE_NUMBERS + TREE_PLANES
        self.feature_norm = nn.LayerNorm(sum(config.feature_channels))
        self.from_features = nn.Linear(sum(config.feature_channels), width)
        self.from_shape = _mlp([SHAPE_NUMBERS, width, width])
        self.bias = _mlp([pair, 32, config.layers * config.heads])
        self.layers = nn.ModuleList(_CellLayer(width, config.heads, dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)

        self.cell_stream, self.cell_key = nn.Linear(width, stream), nn.Linear(width, stream)
        self.prompt_stream, self.prompt_key = nn.Linear(width, stream), nn.Linear(width, stream)
        self.pair_stream = _mlp([pair, stream, stream])
        self.mix = _mlp([stream, stream, stream])
        self.prompt_token = nn.Linear(width, token)
        self.output_tokens = nn.Parameter(torch.randn(1 + MASKS_PER_PROMPT, token) * 0.5)
        self.blocks = nn.ModuleList(_TwoWayBlock(token, stream) for _ in range(config.blocks))
        self.norm_tokens, self.norm_stream = nn.LayerNorm(token), nn.LayerNorm(stream)
        self.mask_head = nn.ModuleList(_mlp([token, token, stream + 1]) for _ in range(MASKS_PER_PROMPT))
        self.mask_stream = _mlp([stream, stream, stream])
        self.iou_head = _mlp([2 * token + stream + SUMMARY_NUMBERS, token, token // 2, 1])
        self.level = nn.Parameter(torch.randn(MASKS_PER_PROMPT, token) * 0.1)

    def encode(self, tokens: CellTokens, area: torch.Tensor) -> CellContext:
        """Encode batched cell tokens with (B, P) area shares, 0 for padding."""
        pair = pair_numbers(tokens, area, None, self.config.feature_channels)
        bias = self.bias(pair).movedim(-1, 1)
        bias = bias.masked_fill((area <= 0)[:, None, None], -1e4)
        x = self.from_features(self.feature_norm(tokens.features.float())) + self.from_shape(tokens.shape)
        for layer, own in zip(self.layers, bias.chunk(len(self.layers), dim=1), strict=True):
            x = layer(x, own)
        x = self.norm(x)
        return CellContext(tokens, x, area, border_planes(tokens, area, self.config.feature_channels))

    def forward(self, context: CellContext, prompts: torch.Tensor) -> DecoderOutput:
        """Answer (B, N) int64 prompted cells."""
        batch, count = prompts.shape
        cells = context.cells.shape[1]
        rows = torch.arange(batch, device=prompts.device)[:, None]
        prompted = context.cells[rows, prompts]
        product = self.prompt_key(prompted)[:, :, None] * self.cell_key(context.cells)[:, None]
        stream = self.cell_stream(context.cells)[:, None] + self.prompt_stream(prompted)[:, :, None] + product
        pair = pair_numbers(context.tokens, context.area, prompts, self.config.feature_channels)
        stream = self.mix(stream + self.pair_stream(pair))
        stream = stream.view(batch * count, cells, -1)
        own = self.prompt_token(prompted).view(batch * count, 1, -1)
        tokens = torch.cat([self.output_tokens.expand(batch * count, -1, -1).to(own.dtype), own], dim=1)
        padding = context.area <= 0
        present = None
        if bool(padding.any()):
            present = torch.zeros(padding.shape, device=prompts.device, dtype=stream.dtype)
            present = present.masked_fill(padding, -1e4).repeat_interleave(count, dim=0)[:, None, None]
        for block in self.blocks:
            tokens, stream = block(tokens, stream, present)
        tokens, stream = self.norm_tokens(tokens), self.norm_stream(stream)
        masks = tokens[:, 1 : 1 + MASKS_PER_PROMPT]
        hyper = torch.stack([head(masks[:, i]) for i, head in enumerate(self.mask_head)], dim=1)
        surface = self.mask_stream(stream)
        logits = hyper[..., :-1] @ surface.transpose(1, 2) / 4 + hyper[..., -1:]
        # The first output is the whole, the others lie inside it: what SAM learned from its data, E-SAM builds on.
        logits = torch.cat([logits[:, :1], torch.minimum(logits[:, 1:], logits[:, :1])], dim=1)
        score = self._predict_iou(tokens, stream, logits, context, count)
        shape = (batch, count, MASKS_PER_PROMPT)
        return DecoderOutput(logits.view(*shape, cells), score.view(shape), masks.reshape(*shape, -1))

    def _predict_iou(
        self, tokens: torch.Tensor, stream: torch.Tensor, logits: torch.Tensor, context: CellContext, count: int
    ) -> torch.Tensor:
        """(M, 3) predicted IoU for M prompts, `count` per image.

        Inputs: tokens, the stream averaged under each soft mask, the mask's certainty, its border, and whether its
        cells belong together. Gradients stop at the mask, so the score does not shape it.
        """
        area = context.area.repeat_interleave(count, dim=0)
        soft = logits.detach().float().sigmoid()
        probability = soft * area[:, None]
        total = probability.sum(dim=-1, keepdim=True).clamp_min(1e-6)
        pooled = (probability / total).to(stream.dtype) @ stream
        certain = ((logits.detach().float().abs()).tanh() * probability).sum(-1, keepdim=True) / total
        hard = (logits.detach() > 0).float() * area[:, None]
        high = ((logits.detach() > 1).float() * area[:, None]).sum(-1, keepdim=True)
        low = ((logits.detach() > -1).float() * area[:, None]).sum(-1, keepdim=True)
        stability = high / low.clamp_min(1e-6)
        size = hard.sum(dim=-1, keepdim=True)
        summary = [size.clamp_min(1e-5).log() / 5 + 1, size.sqrt(), certain, stability]
        summary += _border_summary(soft, context.borders, (context.area > 0).float(), total)
        masks = tokens[:, 1 : 1 + MASKS_PER_PROMPT] + self.level
        overall = tokens[:, :1].expand_as(masks)
        known = torch.cat([masks.float(), overall.float(), pooled.float(), *summary], dim=-1)
        # In full precision: half of it would leave ties among the scores that masks are ranked by.
        with torch.autocast(known.device.type, enabled=False):
            score: torch.Tensor = self.iou_head(known)
        return score.squeeze(-1).sigmoid()


def _border_summary(
    soft: torch.Tensor, borders: torch.Tensor, present: torch.Tensor, total: torch.Tensor
) -> list[torch.Tensor]:
    """Four numbers, each (M, 3, 1), for each of (M, 3, P) soft masks.

    The mean boundary, and the mean probability of belonging together, over pairs of touching cells with one inside; the
    latter also over all pairs inside, and over all pairs across.
    """
    images, _, cells, _ = borders.shape
    inside = soft.reshape(images, -1, cells)
    outside = (1 - inside) * present[:, None]
    reached = [inside @ plane for plane in borders.to(inside.dtype).unbind(dim=1)]
    touch, boundary, same = ((plane * outside).sum(-1) for plane in reached[:3])
    mass = total.reshape(images, -1)
    within = (reached[3] * inside).sum(-1) / mass.square()
    across = (reached[3] * outside).sum(-1) / (mass * (1 - mass)).clamp_min(1e-6)
    values = (boundary / touch.clamp_min(1e-6), same / touch.clamp_min(1e-6), within, across)
    return [value.view(*soft.shape[:2], 1) for value in values]
