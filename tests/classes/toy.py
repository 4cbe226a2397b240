"""A small backbone whose right answers are known: pictures are flat colours, and every connected colour is a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.measure import label

from everymask.backbone.protocol import Canvas, ImageEmbedding, PromptMasks
from everymask.classes.head import ClassHead, HeadSpec

BACKGROUND = (128, 128, 128)
COLOURS = {"cherry": (220, 30, 30), "lime": (40, 210, 60), "plum": (90, 40, 160)}


class ColourBackbone:
    """Cells are connected regions of one colour; the mask token is the colour, and so is the pooled feature."""

    name = "colour"
    token_dim = 3
    feature_dim = 3
    device = torch.device("cpu")

    def __init__(self, weights_sha256: str = "a" * 64) -> None:
        self.weights_sha256 = weights_sha256

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        return [self._embed(image) for image in images]

    def _embed(self, image: NDArray[np.uint8]) -> ImageEmbedding:
        small = image[::2, ::2]
        codes = small.astype(np.int64) @ [1, 256, 65536]
        cells = torch.from_numpy(label(codes, background=-1, connectivity=1).astype(np.int64) - 1)
        area = torch.bincount(cells.flatten()).float()
        colours = torch.zeros(len(area), 3).index_add_(
            0, cells.flatten(), torch.from_numpy(small / 255).float().view(-1, 3)
        )
        return ImageEmbedding(
            Canvas(cells, area, image.shape[:2]), small, {"colours": colours / area[:, None]}, self.weights_sha256
        )

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        cells = embedding.canvas.cells_at(point_coords)
        count, num_cells = len(cells), embedding.canvas.num_cells
        logits = torch.full((count, 3, num_cells), -5.0)
        logits[torch.arange(count), :2, cells] = 5.0
        logits[:, 2] = 5.0
        mean = self.pool_features(embedding, torch.ones(1, num_cells, dtype=torch.bool))
        own = embedding.features["colours"][cells]
        tokens = torch.stack([own, own, mean.expand(count, 3)], dim=1)
        return PromptMasks(logits, torch.tensor([0.9, 0.8, 0.5]).expand(count, 3), tokens, point_coords)

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
        _, inverse = torch.unique(embedding.canvas.cells_at(point_coords), return_inverse=True)
        representative = torch.tensor([int((inverse == group).nonzero()[0]) for group in range(int(inverse.max()) + 1)])
        return representative, inverse

    def sample_features(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> torch.Tensor:
        return embedding.features["colours"][embedding.canvas.cells_at(point_coords)]

    def pool_features(self, embedding: ImageEmbedding, masks: torch.Tensor) -> torch.Tensor:
        weights = masks * embedding.canvas.cell_area
        return (weights @ embedding.features["colours"]) / weights.sum(dim=1, keepdim=True).clamp_min(1)

    def full_resolution_logits(self, embedding: ImageEmbedding, logits: torch.Tensor) -> torch.Tensor:
        height, width = embedding.canvas.original_size_hw
        pixels = embedding.canvas.to_pixels(logits)
        return pixels.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)[..., :height, :width]


def picture(
    objects: Sequence[tuple[str, tuple[int, int, int, int]]], size_hw: tuple[int, int] = (40, 48)
) -> NDArray[np.uint8]:
    """A grey picture with rectangles (x0, y0, x1, y1), on even pixels, in the colours of named classes."""
    image = np.full((*size_hw, 3), BACKGROUND, dtype=np.uint8)
    for name, (x0, y0, x1, y1) in objects:
        image[y0:y1, x0:x1] = COLOURS[name]
    return image


class NearestColour(torch.nn.Module):
    """Logits by distance to the colour of each class, grey for background: a classifier with nothing to learn."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.register_buffer("anchors", torch.tensor([COLOURS["cherry"], COLOURS["lime"], (128, 128, 128)]) / 255)

    def forward(self, colours: torch.Tensor) -> torch.Tensor:
        return -self.sharpness * torch.cdist(colours, self.anchors)


def colour_head(sharpness: float = 40.0, sha256: str = "a" * 64) -> ClassHead:
    head = ClassHead(HeadSpec(("cherry", "lime"), "colour", sha256, "token", 3, 3))
    head.layers = NearestColour(sharpness)
    return head.eval()
