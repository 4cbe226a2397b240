"""Prompt a backbone with many points of one image, in batches, each distinct prompt once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.constants import prompts_at_a_time, to_host
from everymask.backbone.models import MODELS, SAM_THRESHOLDS, ConfidenceThresholds
from everymask.backbone.points import point_grid
from everymask.backbone.protocol import MASKS_PER_PROMPT, Canvas, ImageEmbedding, PromptableBackbone, PromptMasks
from everymask.backbone.sure_points import decode_sure_points
from everymask.entities.config import EntityConfig
from everymask.masks.mask_set import Level, MaskSet
from everymask.masks.packed import PackedMasks
from everymask.masks.stability import above, rated_bits

Rows = NDArray[np.int64]
"""(K,) positions among the 3N masks of N prompts."""


@dataclass(frozen=True)
class PromptAnswers:
    """A backbone's answers to N prompts: 3N masks, three neighbours a prompt in the model's order.

    The host chooses masks, and only chosen ones are kept, since all logits would take gigabytes.

    Attributes:
        prompts: the backbone's own answer.
        packed: the masks in the host's memory.
        predicted_iou: (3N,) float32.
        stability_score: (3N,) float32.
        level: (3N,) int64, values of `Level` (eq. 1): the largest mask of a prompt is its object, then part, then
            subpart; equal areas keep the model's order.
        rated: `stability_score` on the backbone's device.
    """

    prompts: PromptMasks
    packed: PackedMasks
    predicted_iou: NDArray[np.float32]
    stability_score: NDArray[np.float32]
    level: NDArray[np.int64]
    rated: torch.Tensor

    @classmethod
    def of(cls, prompts: PromptMasks, canvas: Canvas, stability_offset: float) -> PromptAnswers:
        logits = prompts.logits.flatten(0, 1)
        packed_bits, stability_score = rated_bits(logits, canvas.cell_area, stability_offset)
        rated = stability_score.to(torch.float32)
        bits, predicted_iou, stability = to_host(packed_bits, prompts.predicted_iou.flatten(), rated)
        packed = PackedMasks.of_bits(bits, canvas.on_host.cell_area)
        by_area = np.argsort(-packed.areas.reshape(-1, MASKS_PER_PROMPT), axis=1, kind="stable")
        level = np.argsort(by_area, axis=1).ravel()
        return cls(prompts, packed, predicted_iou, stability, level, rated)

    def best(self) -> Rows:
        """(N,) the mask of each prompt with the highest predicted IoU (ε_B in eq. 1); the first of equals."""
        best = self.predicted_iou.reshape(-1, MASKS_PER_PROMPT).argmax(axis=1)
        rows: Rows = best + MASKS_PER_PROMPT * np.arange(len(best))
        return rows

    def guidance(self, config: EntityConfig) -> Rows:
        """(N,) the mask G_p of each prompt: the object, unless the best is better by τ (eq. 6)."""
        best = self.best()
        objects = np.flatnonzero(self.level == Level.OBJECT)
        use_object = self.predicted_iou[best] - self.predicted_iou[objects] < config.guidance_tolerance
        rows: Rows = np.where(use_object, objects, best)
        return rows

    def confident(self, rows: Rows, config: EntityConfig, backbone: str) -> Rows:
        """Those of `rows` that are not empty and pass both confidence thresholds."""
        least = confidence_thresholds(backbone, config.pred_iou_thresh, config.stability_score_thresh)
        sure = self.predicted_iou[rows] >= np.float32(least.pred_iou)
        stable = self.stability_score[rows] >= np.float32(least.stability_score)
        return rows[(self.packed.areas[rows] > 0) & sure & stable]

    def take(self, rows: Rows) -> MaskSet:
        """The masks at `rows`, with logits in half precision: they only shape boundaries."""
        index = torch.from_numpy(rows).to(self.rated.device)
        prompt = index // MASKS_PER_PROMPT
        logits = self.prompts.logits.flatten(0, 1)[index].clamp_(-100, 100)
        return MaskSet(
            masks=above(logits, 0),
            logits=logits.to(torch.float16),
            predicted_iou=self.prompts.predicted_iou.flatten()[index],
            stability_score=self.rated[index],
            point_coords=self.prompts.point_coords[prompt],
            level=torch.from_numpy(self.level[rows]).to(index.device),
            tokens=self.prompts.tokens.flatten(0, 1)[index],
        )


def decode_batches(
    backbone: PromptableBackbone,
    embedding: ImageEmbedding,
    point_coords: torch.Tensor,
    config: EntityConfig,
    least_iou: float = 0.0,
) -> Iterator[PromptAnswers]:
    """Answers to (N, 2) prompts, batch by batch in order; N = 0 gives one empty batch. A GPU whose memory is too small
    for a batch gets half of it.

    Args:
        least_iou: a prompt none of whose masks has this predicted IoU may get empty masks.

    Raises:
        ModelOutputError: the backbone answered with NaN or infinity.
    """
    size = config.points_per_batch or prompts_at_a_time(point_coords.device)
    start = 0
    while start == 0 or start < len(point_coords):
        batch = point_coords[start : start + size]
        try:
            prompts = decode_sure_points(backbone, embedding, batch, least_iou)
            answers = PromptAnswers.of(prompts, embedding.canvas, config.stability_score_offset)
        except torch.OutOfMemoryError:
            if len(batch) <= 1:
                raise
            size = len(batch) // 2
            continue
        yield answers
        start += size


def decode_grid(
    backbone: PromptableBackbone, embedding: ImageEmbedding, config: EntityConfig
) -> Iterator[PromptAnswers]:
    """Answers to the grid that proposes masks, each distinct prompt once, as `decode_batches` gives them."""
    canvas = embedding.canvas
    points = point_grid(canvas.original_size_hw, config.points_per_side, canvas.cell_area.device)
    representative, _ = backbone.distinct_points(embedding, points)
    return decode_batches(backbone, embedding, points[representative], config)


def confidence_thresholds(
    backbone: str, pred_iou: float | None = None, stability_score: float | None = None
) -> ConfidenceThresholds:
    """The given thresholds; for None, the recommendation of the table of models, or SAM's defaults for other
    backbones."""
    recommended = MODELS[backbone].thresholds if backbone in MODELS else SAM_THRESHOLDS
    return ConfidenceThresholds(
        pred_iou=recommended.pred_iou if pred_iou is None else pred_iou,
        stability_score=recommended.stability_score if stability_score is None else stability_score,
    )
