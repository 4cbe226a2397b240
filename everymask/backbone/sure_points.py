"""Prompts whose answers only count where the model is sure of them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone, PromptMasks


@runtime_checkable
class AnswersSurePoints(Protocol):
    """A backbone that saves the work of masks that would be dropped for their predicted IoU."""

    def decode_sure_points(
        self, embedding: ImageEmbedding, point_coords: torch.Tensor, least_iou: float
    ) -> PromptMasks:
        """`PromptableBackbone.decode_points`; a prompt none of whose masks is predicted as well may get empty ones."""
        ...


def decode_sure_points(
    backbone: PromptableBackbone, embedding: ImageEmbedding, point_coords: torch.Tensor, least_iou: float
) -> PromptMasks:
    """Answers to (N, 2) clicks of which only masks with at least this predicted IoU are used.

    Raises:
        ModelOutputError: an answer holds NaN or infinity.
    """
    if least_iou > 0 and isinstance(backbone, AnswersSurePoints):
        return backbone.decode_sure_points(embedding, point_coords, least_iou)
    return backbone.decode_points(embedding, point_coords)
