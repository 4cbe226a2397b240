"""Asking a backbone about many points of one image, in batches, each distinct prompt once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from everymask.backbone.protocol import MASKS_PER_PROMPT, ImageEmbedding, PromptableBackbone
from everymask.entities.confidence import confidence_thresholds
from everymask.entities.config import EntityConfig
from everymask.masks.mask_set import Level, MaskSet


def point_grid(size_hw: tuple[int, int], points_per_side: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """(points_per_side², 2) float32 points (x, y), row by row, at the centres of equal boxes over an image (H, W)."""
    height, width = size_hw
    steps = (torch.arange(points_per_side, dtype=torch.float32, device=device) + 0.5) / points_per_side
    ys, xs = torch.meshgrid(steps * height, steps * width, indexing="ij")
    return torch.stack([xs.flatten(), ys.flatten()], dim=1)


def decode_batches(
    backbone: PromptableBackbone, embedding: ImageEmbedding, point_coords: torch.Tensor, config: EntityConfig
) -> Iterator[MaskSet]:
    """Answers to (N, 2) prompts, batch by batch in order; N = 0 gives one empty batch.

    Logits are kept in half precision: they only shape boundaries, and at SAM's resolution they are most of the memory.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    for batch in torch.split(point_coords, config.points_per_batch):
        answers = MaskSet.from_prompts(
            backbone.decode_points(embedding, batch), embedding.canvas.cell_area, config.stability_score_offset
        )
        yield replace(answers, logits=answers.logits.clamp(-100, 100).to(torch.float16))


def decode_grid(backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig) -> Iterator[MaskSet]:
    """Answers to the grid that proposes masks, each distinct prompt once, as `decode_batches` gives them."""
    canvas = embedding.canvas
    points = point_grid(canvas.original_size_hw, config.points_per_side, canvas.cell_area.device)
    representative, _ = backbone.distinct_points(embedding, points)
    return decode_batches(backbone, embedding, points[representative], config)


def best_of_each_prompt(answers: MaskSet) -> torch.Tensor:
    """(N,) int64 positions of the mask of each prompt with the highest predicted IoU (ε_B in eq. 1 of E-SAM)."""
    best = answers.predicted_iou.reshape(-1, MASKS_PER_PROMPT).argmax(dim=1)
    return best + MASKS_PER_PROMPT * torch.arange(best.shape[0], device=best.device)


def guidance_of_each_prompt(answers: MaskSet, tolerance: float) -> torch.Tensor:
    """(N,) int64 positions of the mask G_p of each prompt: the object, unless the best is better by τ (eq. 6)."""
    best = best_of_each_prompt(answers)
    objects = torch.nonzero(answers.level == Level.OBJECT).flatten()
    use_object = answers.predicted_iou[best] - answers.predicted_iou[objects] < tolerance
    return torch.where(use_object, objects, best)


def passes_thresholds(masks: MaskSet, config: EntityConfig, backbone: str) -> torch.Tensor:
    """(M,) bool: not empty, and confident and stable enough to be proposed by the backbone of that name."""
    least = confidence_thresholds(backbone, config.pred_iou_thresh, config.stability_score_thresh)
    return (
        masks.masks.any(dim=1)
        & (masks.predicted_iou >= least.pred_iou)
        & (masks.stability_score >= least.stability_score)
    )
