"""A backbone whose answers are written down: a table of masks, and which entry answers a prompt at each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from everymask.backbone.protocol import Canvas, ImageEmbedding, PromptMasks


@dataclass(frozen=True)
class Reply:
    """Three masks (H, W) bool and their predicted IoU; the same mask may stand three times."""

    masks: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]
    predicted_iou: tuple[float, float, float] = (0.95, 0.95, 0.95)

    @classmethod
    def one(cls, mask: NDArray[np.bool_], predicted_iou: float = 0.95) -> Reply:
        return cls((mask, mask, mask), (predicted_iou,) * 3)


@dataclass
class ScriptedBackbone:
    """Implements the backbone protocol over a fixed table; every canvas pixel is a cell, the canvas is the image.

    Attributes:
        answers: the table.
        answer_map: (H, W) int, which answer a prompt at each pixel gets.
        feature_map: (H, W, F) float image features.
        decoded: how many prompts were decoded so far.
    """

    answers: Sequence[Reply]
    answer_map: NDArray[np.int64]
    feature_map: NDArray[np.float32] | None = None
    name: str = "scripted"
    weights_sha256: str = "0" * 64
    token_dim: int = 2
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    decoded: int = 0

    def __post_init__(self) -> None:
        if self.feature_map is None:
            self.feature_map = np.ones((*self.answer_map.shape, 2), dtype=np.float32)
        masks = np.stack([np.stack(answer.masks) for answer in self.answers])
        self._logits = torch.where(torch.from_numpy(masks).flatten(2), 8.0, -8.0)
        self._predicted_iou = torch.tensor([answer.predicted_iou for answer in self.answers])

    @property
    def feature_dim(self) -> int:
        return self.feature_map.shape[-1]

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        height, width = self.answer_map.shape
        cells = torch.arange(height * width).reshape(height, width)
        canvas = Canvas(cells, torch.ones(height * width), (height, width))
        for image in images:
            assert image.shape == (height, width, 3)
        return [ImageEmbedding(canvas, image, {}, self.weights_sha256) for image in images]

    def _entry(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.answer_map).flatten()[embedding.canvas.cells_at(point_coords)]

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        entry = self._entry(embedding, point_coords)
        self.decoded += len(entry)
        tokens = torch.zeros(len(entry), 3, self.token_dim)
        return PromptMasks(self._logits[entry], self._predicted_iou[entry], tokens, point_coords)

    def decode_clicks(
        self,
        embedding: ImageEmbedding,
        point_coords: torch.Tensor,
        point_labels: torch.Tensor,
        box_xyxy: torch.Tensor | None = None,
    ) -> PromptMasks:
        return self.decode_points(embedding, point_coords[point_labels == 1][:1])

    def distinct_points(
        self, embedding: ImageEmbedding, point_coords: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        _, first, inverse = np.unique(self._entry(embedding, point_coords), return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.argsort(order)
        return torch.from_numpy(first[order]), torch.from_numpy(rank[inverse])

    def sample_features(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.feature_map).flatten(0, 1)[embedding.canvas.cells_at(point_coords)]

    def pool_features(self, embedding: ImageEmbedding, masks: torch.Tensor) -> torch.Tensor:
        weights = masks.to(torch.float32)
        sums = weights @ torch.from_numpy(self.feature_map).flatten(0, 1)
        return sums / weights.sum(dim=1, keepdim=True).clamp_min(1)

    def full_resolution_logits(self, embedding: ImageEmbedding, logits: torch.Tensor) -> torch.Tensor:
        canvas = embedding.canvas
        return interpolate(canvas.to_pixels(logits)[None], canvas.original_size_hw, mode="bilinear")[0]


def rectangle(size_hw: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    """(H, W) bool, True on the half-open box."""
    mask = np.zeros(size_hw, dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def painted(size_hw: tuple[int, int], *regions: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(H, W) answer map: 0, and i + 1 on region i, later regions over earlier ones."""
    answer_map = np.zeros(size_hw, dtype=np.int64)
    for position, region in enumerate(regions):
        answer_map[region] = position + 1
    return answer_map
