"""The backbone methods that follow from an image's frame alone."""

from __future__ import annotations

import torch

from everymask.backbone.points import group_equal
from everymask.backbone.protocol import ImageEmbedding
from everymask.backbone.sam.features import pool_tokens, sample_tokens
from everymask.backbone.sam.frame import ImageFrame


class FramedBackbone:
    """Part of `PromptableBackbone`: features under points and masks, and masks at full size."""

    _device: torch.device

    def _frame(self, embedding: ImageEmbedding) -> ImageFrame:
        """The frame of an image embedded here; ConfigurationError if it was embedded with other weights."""
        raise NotImplementedError

    def distinct_points(
        self, embedding: ImageEmbedding, point_coords: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return group_equal(point_coords)

    def sample_features(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> torch.Tensor:
        return sample_tokens(self._frame(embedding), embedding.features["image"], point_coords.to(self._device))

    def pool_features(self, embedding: ImageEmbedding, masks: torch.Tensor) -> torch.Tensor:
        frame = self._frame(embedding)
        return pool_tokens(frame, embedding.features["image"], _as_pixels(frame, masks.to(self._device)))

    def full_resolution_logits(self, embedding: ImageEmbedding, logits: torch.Tensor) -> torch.Tensor:
        frame = self._frame(embedding)
        return frame.to_original(_as_pixels(frame, logits))


def _as_pixels(frame: ImageFrame, values: torch.Tensor) -> torch.Tensor:
    """`Canvas.to_pixels` without a copy: a frame's cells are its decoder pixels, row by row."""
    return torch.unflatten(values, -1, frame.canvas_size_hw)
