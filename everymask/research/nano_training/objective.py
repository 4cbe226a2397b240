"""The prompt decoder's objective: prompts drawn from segments, mask and score losses, and figures by cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from everymask.backbone.nano.decoder import DecoderOutput
from everymask.backbone.nano.tokens import CellTokens
from everymask.research.nano_training.samples import Sample


@dataclass(frozen=True)
class ObjectiveConfig:
    cross_entropy: float = 1.0
    """Weight of the binary cross-entropy; cells count by the root of their area."""
    overlap: float = 1.5
    """Weight of 1 - soft IoU."""
    others: float = 0.05
    """Share of the loss on all three outputs equally."""
    object_level: float = 0.25
    """Share of the loss on the first output, for prompts whose segment is the largest that any annotator drew there: it
    learns to answer with the whole object, as E-SAM expects of the largest mask."""
    score: float = 1.0
    """Weight of the squared error of predicted IoU, equal for the best and the other outputs."""
    uniform_share: float = 0.6
    """Share of prompts with a uniformly drawn segment; the rest are drawn by the root of area."""
    interior_share: float = 0.5
    """Share of prompts at the segment's deepest cell; the rest are at random cells inside."""


class Batch(NamedTuple):
    """B images padded to P cells, N prompts each.

    Attributes:
        tokens: (B, P, …) cell tokens.
        area: (B, P) share of the canvas; 0 for padding.
        prompts: (B, N) int64 prompted cells.
        target: (B, N, P) share of each cell inside the prompted segment.
        largest: (B, N) bool, whether no larger segment of any annotator holds the prompted cell.
    """

    tokens: CellTokens
    area: torch.Tensor
    prompts: torch.Tensor
    target: torch.Tensor
    largest: torch.Tensor


def interior_cells(sample: Sample) -> torch.Tensor:
    """(S,) int64: each segment's cell with most of its mass near its centre.

    It stands, at cell resolution, for the pixel farthest from the segment's border.
    """
    coverage = sample.coverage.float()
    mass = coverage * sample.area
    centre = sample.tokens.shape[:, 3:5]
    mean = mass @ centre / mass.sum(dim=1, keepdim=True).clamp_min(1e-9)
    distance = torch.cdist(mean, centre)
    radius = (mass.sum(dim=1, keepdim=True)).sqrt().clamp_min(1e-3)
    value = coverage.square() * sample.area.sqrt() * torch.exp(-distance / radius)
    return value.argmax(dim=1)


def draw_prompts(
    sample: Sample, count: int, config: ObjectiveConfig, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` prompted cells (N,) and the index (N,) of each one's segment."""
    share = (sample.coverage.float() * sample.area).sum(dim=1).double().numpy()
    uniform = np.full(len(share), 1 / len(share))
    root = np.sqrt(share) / np.sqrt(share).sum()
    chances = config.uniform_share * uniform + (1 - config.uniform_share) * root
    segments = rng.choice(len(share), size=count, p=chances / chances.sum())
    inside = interior_cells(sample).numpy()
    cells = np.empty(count, dtype=np.int64)
    for i, segment in enumerate(segments):
        if rng.random() < config.interior_share:
            cells[i] = inside[segment]
            continue
        coverage = sample.coverage[segment].double().numpy()
        weight = coverage**2 * sample.area.double().numpy()
        if coverage.max() > 0.5:
            weight = weight * (coverage > 0.5)
        cells[i] = rng.choice(len(weight), p=weight / weight.sum())
    return torch.from_numpy(cells), torch.from_numpy(segments)


def _is_largest(sample: Sample, cells: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """(N,) bool: whether no larger segment holds most of the prompted cell."""
    share = sample.coverage.float() @ sample.area
    at_cell = torch.where(sample.coverage[:, cells] > 0.5, share[:, None], 0.0)
    return at_cell.amax(dim=0) <= share[segments]


def collate(samples: list[Sample], drawn: list[tuple[torch.Tensor, torch.Tensor]]) -> Batch:
    """Pad samples to the largest number of cells."""
    cells = max(len(sample.area) for sample in samples)

    def pad(tensor: torch.Tensor, *dims: int) -> torch.Tensor:
        amounts: list[int] = []
        for dim in range(-1, -tensor.ndim - 1, -1):
            amounts += [0, cells - tensor.shape[dim] if dim in dims else 0]
        return functional.pad(tensor, amounts)

    tokens = CellTokens(
        torch.stack([pad(s.tokens.features.float(), -2) for s in samples]),
        torch.stack([pad(s.tokens.shape, -2) for s in samples]),
        torch.stack([pad(s.tokens.planes, -1, -2) for s in samples]),
    )
    target = torch.stack([pad(s.coverage[segment].float(), -1) for s, (_, segment) in zip(samples, drawn, strict=True)])
    return Batch(
        tokens=tokens,
        area=torch.stack([pad(s.area, -1) for s in samples]),
        prompts=torch.stack([cell for cell, _ in drawn]),
        target=target,
        largest=torch.stack([_is_largest(s, *pair) for s, pair in zip(samples, drawn, strict=True)]),
    )


def cell_iou(masks: torch.Tensor, target: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
    """(…, 3) IoU of (…, 3, P) masks (bool or soft) with (…, P) coverage, weighted by (…, P) areas."""
    weighted = masks.float() * area[..., None, :]
    inter = (weighted * target[..., None, :]).sum(-1)
    union = weighted.sum(-1) + (target * area).sum(-1)[..., None] - inter
    return inter / union.clamp_min(1e-9)


def losses(output: DecoderOutput, batch: Batch, config: ObjectiveConfig) -> dict[str, torch.Tensor]:
    """`loss` (to minimise) and figures: `best` and `top` IoU, `mask` and `score` losses, all scalars."""
    logits, target = output.logits.float(), batch.target
    area = batch.area[:, None].expand_as(target)
    soft = cell_iou(logits.sigmoid(), target, area)
    weight = area.sqrt() / area.sqrt().sum(-1, keepdim=True)
    wrong = functional.binary_cross_entropy_with_logits(logits, target[:, :, None].expand_as(logits), reduction="none")
    entropy = (wrong * weight[:, :, None]).sum(-1)
    each = config.cross_entropy * entropy + config.overlap * (1 - soft)
    best = each.min(dim=-1).values
    whole = config.object_level * batch.largest.float()
    mask = (1 - config.others - whole) * best + config.others * each.mean(dim=-1) + whole * each[..., 0]
    real = cell_iou(logits.detach() > 0, target, area)
    score = functional.mse_loss(output.predicted_iou.float(), real)
    top = real.gather(-1, output.predicted_iou.argmax(dim=-1, keepdim=True))
    return {
        "loss": mask.mean() + config.score * 4 * score,
        "mask": mask.mean().detach(),
        "score": score.detach(),
        "best": real.max(dim=-1).values.mean(),
        "top": top.mean(),
    }
