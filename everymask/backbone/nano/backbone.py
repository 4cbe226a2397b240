"""`nano` behind the backbone protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from everymask.backbone.models import PrecisionSetting
from everymask.backbone.nano.checkpoint import NanoModel
from everymask.backbone.nano.combined_clicks import combine_answers, prompting_cells
from everymask.backbone.nano.decoder import CellContext
from everymask.backbone.nano.efficientnet import CHANNELS
from everymask.backbone.nano.tokens import CellTokens, describe_image
from everymask.backbone.points import group_equal
from everymask.backbone.protocol import MASKS_PER_PROMPT, Canvas, ImageEmbedding, PromptMasks
from everymask.errors import ConfigurationError, ModelOutputError

LONGEST_SIDE_PX = 512
"""Longest side of the canvas; smaller images are not enlarged."""
_TRUNK_CHANNELS = sum(CHANNELS[1:])
"""Number of the trunk's features, which come first among a cell's features."""
PROMPTS_PER_CHUNK = 32
"""Prompts decoded at once: few enough for a CPU core's cache."""


def canvas_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 scaled down, antialiased and in proportion, to a longest side of at most `LONGEST_SIDE_PX`."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE_PX / max(height, width))
    if scale == 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))


class NanoBackbone:
    """The built-in model. Implements `PromptableBackbone`, which gives the shapes. A cell is a superpixel.

    An embedding's tensors, for P cells: `features`, `shape` and `planes` as in `CellTokens`, `cells` (P, width) and
    `borders` (4, P, P) as in `CellContext`. Mask features are the trunk's at strides 16 and 32; point features are
    those at all its strides.
    """

    def __init__(
        self,
        model: NanoModel,
        *,
        weights_sha256: str,
        device: torch.device,
        precision: PrecisionSetting = "auto",
    ) -> None:
        self._model = model.to(device)
        if precision != "auto":
            self._model.encoder.in_half = precision == "bf16"
        self._weights_sha256 = weights_sha256
        self._device = device

    @property
    def name(self) -> str:
        return "nano"

    @property
    def weights_sha256(self) -> str:
        return self._weights_sha256

    @property
    def token_dim(self) -> int:
        return self._model.config.decoder.token

    @property
    def feature_dim(self) -> int:
        return sum(CHANNELS[-2:])

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def precision(self) -> str:
        return "bf16" if self._model.encoder.precision(self._device)._enabled else "fp32"

    @torch.no_grad()
    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        return [self._embed_one(image) for image in images]

    def _embed_one(self, image: NDArray[np.uint8]) -> ImageEmbedding:
        small = canvas_image(image)
        described = describe_image(small, self._model.encoder, self._model.config.regions)
        tokens = described.tokens
        cell_index = torch.from_numpy(described.cell_index).to(self._device)
        area = torch.bincount(cell_index.reshape(-1)).float()
        canvas = Canvas(cell_index, area, (image.shape[0], image.shape[1]))
        batched = CellTokens(*(tensor[None] for tensor in tokens))
        with self._model.encoder.precision(self._device):
            context = self._model.decoder.encode(batched, (area / area.sum())[None])
        features = {"features": tokens.features, "shape": tokens.shape, "planes": tokens.planes}
        features |= {"cells": context.cells[0].float(), "borders": context.borders[0].half()}
        if not bool(context.cells.isfinite().all()):
            raise ModelOutputError("nano produced NaN or infinity for the image; check the checkpoint's weights")
        return ImageEmbedding(canvas, small, features, self._weights_sha256)

    @torch.no_grad()
    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        self._check_weights(embedding)
        points = point_coords.to(self._device, torch.float32)
        cells = embedding.canvas.cells_at(points)
        logits, predicted_iou, tokens = self._decode_cells(embedding, cells)
        return PromptMasks(logits, predicted_iou, tokens, points)

    @torch.no_grad()
    def decode_clicks(
        self,
        embedding: ImageEmbedding,
        point_coords: torch.Tensor,
        point_labels: torch.Tensor,
        box_xyxy: torch.Tensor | None = None,
    ) -> PromptMasks:
        """See the protocol. Several clicks and a box select among one-click answers (our choice)."""
        self._check_weights(embedding)
        points = point_coords.to(self._device, torch.float32).reshape(-1, 2)
        foreground = point_labels.to(self._device).reshape(-1) == 1
        if not bool(foreground.any()) and box_xyxy is None:
            raise ConfigurationError("the prompt points at nothing; give at least one click with label 1, or a box")
        box = None if box_xyxy is None else box_xyxy.to(self._device, torch.float32)
        cells = prompting_cells(embedding.canvas, points[foreground], box)
        off_cells = embedding.canvas.cells_at(points[~foreground])
        answers = self._decode_cells(embedding, torch.cat([cells, off_cells]))
        combined = combine_answers(embedding.canvas, answers, cells, off_cells, points[foreground], box)
        anchor = points[foreground][:1] if bool(foreground.any()) else box.view(2, 2).mean(dim=0)[None]  # type: ignore[union-attr]
        return PromptMasks(*combined, anchor)

    def distinct_points(
        self, embedding: ImageEmbedding, point_coords: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return group_equal(embedding.canvas.cells_at(point_coords.to(embedding.canvas.cell_index.device)))

    @torch.no_grad()
    def sample_features(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> torch.Tensor:
        self._check_weights(embedding)
        cells = embedding.canvas.cells_at(point_coords.to(self._device))
        return embedding.features["features"][cells, :_TRUNK_CHANNELS].float()

    @torch.no_grad()
    def pool_features(self, embedding: ImageEmbedding, masks: torch.Tensor) -> torch.Tensor:
        self._check_weights(embedding)
        weights = masks.to(self._device, torch.float32) * embedding.canvas.cell_area
        total = weights.sum(dim=1, keepdim=True).clamp_min(1)
        coarse = embedding.features["features"][:, _TRUNK_CHANNELS - self.feature_dim : _TRUNK_CHANNELS]
        return (weights / total) @ coarse.float()

    @torch.no_grad()
    def full_resolution_logits(self, embedding: ImageEmbedding, logits: torch.Tensor) -> torch.Tensor:
        """See the protocol. Cell logits are spread over the canvas and interpolated bilinearly."""
        canvas = embedding.canvas
        pixels = canvas.to_pixels(logits.to(self._device, torch.float32))
        if canvas.size_hw == canvas.original_size_hw or not len(logits):
            return pixels.reshape(-1, *canvas.original_size_hw)
        return functional.interpolate(
            pixels[:, None], size=canvas.original_size_hw, mode="bilinear", align_corners=False
        )[:, 0]

    def _decode_cells(
        self, embedding: ImageEmbedding, cells: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N,) prompted cells → (N, 3, P) logits, (N, 3) predicted IoU, (N, 3, C) tokens."""
        features = embedding.features
        area = embedding.canvas.cell_area
        context = CellContext(
            CellTokens(features["features"][None], features["shape"][None], features["planes"][None]),
            features["cells"][None],
            (area / area.sum())[None],
            features["borders"][None].float(),
        )
        count = len(cells)
        logits = area.new_zeros(count, MASKS_PER_PROMPT, embedding.canvas.num_cells)
        predicted_iou = area.new_zeros(count, MASKS_PER_PROMPT)
        tokens = area.new_zeros(count, MASKS_PER_PROMPT, self.token_dim)
        for start in range(0, count, PROMPTS_PER_CHUNK):
            part = slice(start, start + PROMPTS_PER_CHUNK)
            with self._model.encoder.precision(self._device):
                answer = self._model.decoder(context, cells[None, part])
            logits[part], predicted_iou[part], tokens[part] = (tensor[0].float() for tensor in answer)
        if not all(bool(tensor.isfinite().all()) for tensor in (logits, predicted_iou, tokens)):
            raise ModelOutputError("nano answered with NaN or infinity; check the checkpoint's weights")
        return logits, predicted_iou, tokens

    def _check_weights(self, embedding: ImageEmbedding) -> None:
        if embedding.weights_sha256 != self._weights_sha256:
            raise ConfigurationError(
                f"the embedding was made by weights {embedding.weights_sha256[:12]}, nano runs "
                f"{self._weights_sha256[:12]}; embed the image again"
            )
