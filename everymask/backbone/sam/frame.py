"""An image's coordinate frames: original pixels, the network's padded square, decoder pixels, image tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from everymask.backbone.constants import DeviceConstant
from everymask.backbone.protocol import Canvas, PreparedImage
from everymask.backbone.sam.architecture import PIXEL_MEAN, PIXEL_STD
from everymask.backbone.sam.enlarging import Side

DECODER_STRIDE = 4
"""Network input pixels per decoder pixel along a side: the decoder enlarges 16-pixel patches four times."""

DECODER_PIXELS_PER_TOKEN = 4
"""Along a side: the decoder enlarges image tokens four times, whatever the patch size."""

_PIXEL_MEAN, _PIXEL_STD = (DeviceConstant([[[value]] for value in values]) for values in (PIXEL_MEAN, PIXEL_STD))
"""(3, 1, 1) float32 each."""


class ImageFrame(Protocol):
    """Maps one image to a network's square input, and answers back to the image."""

    @property
    def patch_size(self) -> int:
        """Network pixels per image token along a side."""
        ...

    @property
    def canvas_size_hw(self) -> tuple[int, int]:
        """(H', W') decoder pixels that are answered."""
        ...

    @property
    def token_size_hw(self) -> tuple[int, int]:
        """(rows, columns) of image tokens under the canvas."""
        ...

    def to_input(self, coords: torch.Tensor) -> torch.Tensor:
        """(..., 2) points (x, y) in original pixels → network pixels, float64."""
        ...

    def on_host(self, image: NDArray[np.uint8]) -> PreparedImage:
        """The host's share of scaling an image (H, W, 3) uint8."""
        ...

    def to_network(self, prepared: PreparedImage, pixels: torch.Tensor) -> tuple[torch.Tensor, NDArray[np.uint8]]:
        """The device's share of scaling: `pixels` of a prepared image on the device → (3, S, S) float32 network input,
        and the (H', W', 3) uint8 image on the canvas."""
        ...

    def canvas(self, device: torch.device | str = "cpu") -> Canvas:
        """The canvas on a device; every decoder pixel is a cell, row by row."""
        ...

    def to_original(self, logits: torch.Tensor) -> torch.Tensor:
        """(M, H', W') decoder logits → (M, H, W) float32, as in the model's own post-processing."""
        ...

    def sides(self) -> tuple[Side, Side]:
        """How `to_original` enlarges rows and columns."""
        ...


@dataclass(frozen=True)
class Frame:
    """SAM's frame: the image fills the longer side of the square input, at the top left.

    Attributes:
        original_size_hw: in original pixels.
        image_size: side of the network's input in pixels.
        patch_size: network pixels per image token along a side.
    """

    original_size_hw: tuple[int, int]
    image_size: int
    patch_size: int

    @property
    def input_size_hw(self) -> tuple[int, int]:
        """The image's size in network pixels without padding, rounded as by SAM but at least one pixel."""
        height, width = self.original_size_hw
        scale = self.image_size / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    @property
    def canvas_size_hw(self) -> tuple[int, int]:
        """Decoder pixels that SAM's post-processing reads: those under the image, and one more row and column that
        bilinear enlarging weighs in."""
        limit = self.image_size // DECODER_STRIDE
        height, width = ((2 * side - 5) // (2 * DECODER_STRIDE) + 2 for side in self.input_size_hw)
        return max(1, min(limit, height)), max(1, min(limit, width))

    @property
    def token_size_hw(self) -> tuple[int, int]:
        """(rows, columns) of image tokens under the canvas."""
        per_token = self.patch_size // DECODER_STRIDE
        height, width = self.canvas_size_hw
        return -(-height // per_token), -(-width // per_token)

    def to_input(self, coords: torch.Tensor) -> torch.Tensor:
        """(..., 2) points (x, y) in original pixels → network pixels, float64 as in SAM."""
        height, width = self.original_size_hw
        input_height, input_width = self.input_size_hw
        x, y = coords.double().unbind(-1)
        return torch.stack([x * (input_width / width), y * (input_height / height)], dim=-1)

    def on_host(self, image: NDArray[np.uint8]) -> PreparedImage:
        resized = self.resize(image)
        return PreparedImage(self.original_size_hw, torch.tensor(resized), self.canvas_image(resized))

    def to_network(self, prepared: PreparedImage, pixels: torch.Tensor) -> tuple[torch.Tensor, NDArray[np.uint8]]:
        """See `ImageFrame`; the padding is zeros after normalisation."""
        assert prepared.canvas_image is not None
        return network_input(pixels, self.image_size), prepared.canvas_image

    def resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 → (h, w, 3) at `input_size_hw`, by PIL's antialiased bilinear filter as in SAM."""
        height, width = self.input_size_hw
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))

    def canvas(self, device: torch.device | str = "cpu") -> Canvas:
        height, width = self.canvas_size_hw
        cell_index = torch.arange(height * width, device=device).view(height, width)
        input_height, input_width = self.input_size_hw
        # A canvas cut at the network's own size may end a fraction of a pixel before the image does.
        extent_hw = (min(height, input_height / DECODER_STRIDE), min(width, input_width / DECODER_STRIDE))
        return Canvas(
            cell_index, torch.ones(height * width, device=device), self.original_size_hw, extent_hw, DECODER_STRIDE
        )

    def canvas_image(self, resized: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) uint8 at `input_size_hw` → (H', W', 3), the mean colour under each decoder pixel."""
        height, width = (DECODER_STRIDE * side for side in self.canvas_size_hw)
        margins = ((0, max(0, height - resized.shape[0])), (0, max(0, width - resized.shape[1])), (0, 0))
        padded = np.pad(resized, margins, mode="edge")[:height, :width].astype(np.float32)
        blocks = padded.reshape(height // DECODER_STRIDE, DECODER_STRIDE, width // DECODER_STRIDE, DECODER_STRIDE, 3)
        mean: NDArray[np.float32] = blocks.mean(axis=(1, 3))
        return (mean + 0.5).astype(np.uint8)

    def to_original(self, logits: torch.Tensor) -> torch.Tensor:
        """(M, H', W') decoder logits → (M, H, W) float32: SAM's `postprocess_masks` on the canvas only."""
        height, width = self.input_size_hw
        enlarged = F.interpolate(
            logits[:, None].float(),
            tuple(DECODER_STRIDE * side for side in logits.shape[-2:]),
            mode="bilinear",
            align_corners=False,
        )
        cropped = enlarged[..., :height, :width]
        return F.interpolate(cropped, self.original_size_hw, mode="bilinear", align_corners=False)[:, 0]

    def sides(self) -> tuple[Side, Side]:
        """See `ImageFrame`."""
        rows, columns = (
            Side(cells, ((DECODER_STRIDE * cells, inputs), (pixels, pixels)))
            for cells, inputs, pixels in zip(
                self.canvas_size_hw, self.input_size_hw, self.original_size_hw, strict=True
            )
        )
        return rows, columns


def network_input(resized: torch.Tensor, image_size: int) -> torch.Tensor:
    """(h, w, 3) uint8 → (3, S, S) float32, normalised by SAM's mean and deviation, zero-padded at the end."""
    height, width = resized.shape[:2]
    normalised = (resized.permute(2, 0, 1).float() - _PIXEL_MEAN[resized.device]) / _PIXEL_STD[resized.device]
    return F.pad(normalised, (0, image_size - width, 0, image_size - height))
