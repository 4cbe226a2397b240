"""The protocol of promptable backbones: image → embedding, point prompts → masks, scores and mask tokens.

Everything above `everymask.backbone` uses models only through this module. A backbone answers prompts on a *canvas*: a
grid of `(H', W')` pixels, partitioned into P *cells*, with the scaled image at its top left. For the official SAM a
cell is one decoder pixel; a model that answers by superpixel has few, large cells. Mask logic (areas, IoU, unions)
works on `(M, P)` matrices with `cell_area` as weights, whatever the backbone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.constants import to_host

MASKS_PER_PROMPT = 3
_LARGEST_EXACT_FLOAT32 = 2**24


@dataclass(frozen=True)
class Canvas:
    """The grid on which a backbone answers.

    Attributes:
        cell_index: (H', W') int64 cell of each canvas pixel, in [0, P); every cell has at least one pixel.
        cell_area: (P,) canvas pixels in each cell; sums to H' * W'. Kept as float32, or as float64 on a canvas so large
            that float32 would round sums of areas.
        original_size_hw: (height, width) of the image in original pixels.
        extent_hw: (height, width) of the image in canvas pixels, possibly fractional; it begins at the top left. None:
            the whole canvas. The two sides may have different scales.
        enlarged_by: whole factor by which the model's own post-processing enlarges logits before scaling them to the
            image; bilinear scaling in two steps differs slightly from one step.
    """

    cell_index: torch.Tensor
    cell_area: torch.Tensor
    original_size_hw: tuple[int, int]
    extent_hw: tuple[float, float] | None = None
    enlarged_by: int = 1

    def __post_init__(self) -> None:
        if self.cell_index.ndim != 2 or self.cell_area.ndim != 1:
            raise ValueError(
                f"cell_index must be (H', W') and cell_area (P,); got {tuple(self.cell_index.shape)} "
                f"and {tuple(self.cell_area.shape)}"
            )
        exact = torch.float32 if self.cell_index.numel() <= _LARGEST_EXACT_FLOAT32 else torch.float64
        object.__setattr__(self, "cell_area", self.cell_area.to(exact))
        if not all(0 < extent <= side for extent, side in zip(self.image_extent_hw, self.size_hw, strict=True)):
            raise ValueError(f"extent_hw must be inside the canvas of {self.size_hw}; got {self.extent_hw}")

    @property
    def on_host(self) -> Canvas:
        """The same canvas in the host's memory; a GPU is asked for it once."""
        # What is on the host keeps no reference to itself: it would wait for Python's collector.
        return self if self.cell_index.device.type == "cpu" else self._copy_on_host

    @cached_property
    def _copy_on_host(self) -> Canvas:
        cell_index, cell_area = to_host(self.cell_index, self.cell_area)
        return replace(self, cell_index=torch.from_numpy(cell_index), cell_area=torch.from_numpy(cell_area))

    @property
    def size_hw(self) -> tuple[int, int]:
        return int(self.cell_index.shape[0]), int(self.cell_index.shape[1])

    @property
    def num_cells(self) -> int:
        return int(self.cell_area.shape[0])

    def to_pixels(self, values: torch.Tensor) -> torch.Tensor:
        """Spread per-cell values (..., P) of any dtype over the canvas: (..., H', W')."""
        return self.window(values, slice(None), slice(None))

    def window(self, values: torch.Tensor, rows: slice, columns: slice) -> torch.Tensor:
        """The values of `to_pixels` at some rows and columns of the canvas."""
        if self._cells_are_pixels:
            return values.reshape(*values.shape[:-1], *self.size_hw)[..., rows, columns]
        return values[..., self.cell_index[rows, columns]]

    @cached_property
    def _cells_are_pixels(self) -> bool:
        """Whether every canvas pixel is a cell, in order, so that nothing needs to be looked up."""
        index = self.on_host.cell_index.flatten()
        return len(index) == self.num_cells and torch.equal(index, torch.arange(len(index)))

    def from_pixels(self, mask: torch.Tensor) -> torch.Tensor:
        """Average (..., H', W') bool or float pixels over each cell: (..., P) float32."""
        flat = mask.reshape(*mask.shape[:-2], -1).to(torch.float32)
        index = self.cell_index.reshape(-1).expand_as(flat)
        sums = flat.new_zeros(*flat.shape[:-1], self.num_cells).scatter_add_(-1, index, flat)
        return sums / self.cell_area.to(flat.device)

    @property
    def image_extent_hw(self) -> tuple[float, float]:
        """`extent_hw`, or the canvas size if that is None."""
        return self.extent_hw or self.size_hw

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Canvas pixels per original pixel along x and y."""
        (height, width), (original_height, original_width) = self.image_extent_hw, self.original_size_hw
        return width / original_width, height / original_height

    def to_canvas(self, point_coords: torch.Tensor) -> torch.Tensor:
        """(..., 2) float points (x, y) in original pixels → the same points in canvas pixels."""
        return point_coords * point_coords.new_tensor(self.scale_xy)

    def to_original(self, canvas_coords: torch.Tensor) -> torch.Tensor:
        """(..., 2) float points (x, y) in canvas pixels → original pixels, clamped to the image."""
        height, width = self.original_size_hw
        coords = canvas_coords / canvas_coords.new_tensor(self.scale_xy)
        return torch.minimum(coords.clamp_min(0), coords.new_tensor([width, height]))

    def canvas_coords(self, point_coords: torch.Tensor) -> torch.Tensor:
        """(N, 2) points (x, y) in original pixels → (N, 2) int64 canvas pixels (column, row), clamped to the image."""
        height, width = self.image_extent_hw
        limit = torch.tensor([math.ceil(width) - 1, math.ceil(height) - 1], device=point_coords.device)
        return torch.minimum(self.to_canvas(point_coords).floor().long().clamp_min(0), limit)

    def cells_at(self, point_coords: torch.Tensor) -> torch.Tensor:
        """(N, 2) points (x, y) in original pixels → (N,) int64, the cell under each point."""
        coords = self.canvas_coords(point_coords)
        return self.cell_index[coords[:, 1], coords[:, 0]]


@dataclass(frozen=True)
class ImageEmbedding:
    """One image's encoding, from which prompts are answered. Immutable, picklable, shareable between requests.

    Attributes:
        canvas: the grid of its masks.
        canvas_image: (H', W', 3) uint8 RGB, the image at canvas resolution (superpixels are computed on it); beyond the
            image its last row and column are repeated.
        features: tensors by name, for the backbone that made them.
        weights_sha256: digest of the weights that made it; decoding with others is refused.
        picture: (h, w, 3) uint8 RGB, the image at up to 1,024 pixels, for describers of crops; None if there are none.
    """

    canvas: Canvas
    canvas_image: NDArray[np.uint8]
    features: dict[str, torch.Tensor]
    weights_sha256: str
    picture: NDArray[np.uint8] | None = None

    def to(self, device: torch.device | str) -> ImageEmbedding:
        """The same embedding with its tensors on `device`."""
        canvas = replace(
            self.canvas, cell_index=self.canvas.cell_index.to(device), cell_area=self.canvas.cell_area.to(device)
        )
        features = {name: tensor.to(device) for name, tensor in self.features.items()}
        return replace(self, canvas=canvas, features=features)


@dataclass(frozen=True)
class PromptMasks:
    """Answers to N prompts on one image.

    Attributes:
        logits: (N, 3, P) float, mask logits per canvas cell; > 0 is inside.
        predicted_iou: (N, 3) float32, the model's own estimate of each mask's IoU.
        tokens: (N, 3, C) float32, the mask token after the two-way transformer (U-SAM's mask embedding).
        point_coords: (N, 2) float32, the prompting points (x, y) in original pixels.
    """

    logits: torch.Tensor
    predicted_iou: torch.Tensor
    tokens: torch.Tensor
    point_coords: torch.Tensor


@dataclass(frozen=True)
class PreparedImage:
    """An image prepared by the host for an encoder.

    Attributes:
        size_hw: (height, width) in original pixels.
        pixels: (h, w, 3) uint8 RGB, after the host's share of scaling; in pinned memory for a GPU.
        canvas_image: as in `ImageEmbedding`; None if the device makes it.
    """

    size_hw: tuple[int, int]
    pixels: torch.Tensor
    canvas_image: NDArray[np.uint8] | None


@runtime_checkable
class PreparesAhead(Protocol):
    """A backbone that can do the host's share of `embed` in any thread, ahead of the device."""

    def prepare(self, image: NDArray[np.uint8]) -> PreparedImage:
        """Prepare an RGB uint8 (H, W, 3) image."""
        ...

    def embed_prepared(self, images: Sequence[PreparedImage]) -> list[ImageEmbedding]:
        """`PromptableBackbone.embed` of prepared images."""
        ...


@runtime_checkable
class ForgetsEncoder(Protocol):
    """A backbone whose image encoder can go, where embeddings come from elsewhere: most of a large model's memory."""

    def forget_encoder(self) -> None:
        """Free the encoder's memory. Prompts on embeddings are answered as before; `embed` raises RuntimeError."""
        ...


@runtime_checkable
class PromptableBackbone(Protocol):
    """A segmenter with SAM's interface. Stateless between calls."""

    @property
    def name(self) -> str:
        """Name in the table of models, e.g. `nano` or `vit_h`."""
        ...

    @property
    def weights_sha256(self) -> str:
        """Hex digest of the checkpoint file."""
        ...

    @property
    def token_dim(self) -> int:
        """C, the length of a mask token."""
        ...

    @property
    def feature_dim(self) -> int:
        """F, the length of a mask's image feature."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        ...

    @property
    def precision(self) -> str:
        """Number format of its largest part: fp32, bf16 or fp16."""
        ...

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        """Encode RGB uint8 (H, W, 3) images of any sizes, as one batch if possible.

        An image's embedding does not depend on the others. Raises ModelOutputError if features hold NaN or infinity.
        """
        ...

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        """Answer N one-click foreground prompts, (N, 2) float (x, y) in original pixels. N = 0 gives empty tensors.

        Raises:
            ModelOutputError: an answer holds NaN or infinity.
        """
        ...

    def decode_clicks(
        self,
        embedding: ImageEmbedding,
        point_coords: torch.Tensor,
        point_labels: torch.Tensor,
        box_xyxy: torch.Tensor | None = None,
    ) -> PromptMasks:
        """Answer ONE prompt made of K clicks and an optional box: N = 1 in the result.

        Args:
            point_coords: (K, 2) float (x, y) in original pixels; K may be 0 when a box is given.
            point_labels: (K,) int, 1 foreground, 0 background.
            box_xyxy: (4,) float in original pixels, half-open, or None.
        """
        ...

    def distinct_points(
        self, embedding: ImageEmbedding, point_coords: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Group prompts that the model cannot distinguish, so that each group is decoded once.

        Returns:
            representative: (K,) int64, one index into `point_coords` per group, ascending.
            inverse: (N,) int64, each point's group: answers(points) = answers(points[representative])[inverse].
        """
        ...

    def sample_features(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> torch.Tensor:
        """Image features at points (N, 2), (x, y) in original pixels, for comparing points: (N, any length) float32."""
        ...

    def pool_features(self, embedding: ImageEmbedding, masks: torch.Tensor) -> torch.Tensor:
        """Area-weighted mean image feature under (M, P) bool masks: (M, F) float32; zeros for an empty mask."""
        ...

    def full_resolution_logits(self, embedding: ImageEmbedding, logits: torch.Tensor) -> torch.Tensor:
        """(M, P) logits on canvas cells → (M, H, W) float32 logits at original resolution."""
        ...
