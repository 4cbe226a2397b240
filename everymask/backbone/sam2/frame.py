"""SAM 2's frame: the image is squashed to the network's square input, so nothing is padding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize

from everymask.backbone.constants import DeviceConstant
from everymask.backbone.protocol import Canvas, PreparedImage
from everymask.backbone.sam.enlarging import Side
from everymask.backbone.sam.frame import DECODER_PIXELS_PER_TOKEN

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class SquashedFrame:
    """One image that fills the whole square; x and y are scaled apart. Implements `ImageFrame`.

    Attributes:
        original_size_hw: in original pixels.
        image_size: side of the network's input in pixels.
        patch_size: network pixels an image token covers along one side.
        mean, deviation: of each colour, which the input is normalised with, in [0, 1].
        rounded: whether the scaled image is rounded to whole grey levels first (SAM 3).
    """

    original_size_hw: tuple[int, int]
    image_size: int
    patch_size: int
    mean: tuple[float, float, float] = PIXEL_MEAN
    deviation: tuple[float, float, float] = PIXEL_STD
    rounded: bool = False

    @property
    def canvas_size_hw(self) -> tuple[int, int]:
        """(H', W') decoder pixels, all of them under the image."""
        side = self.token_size_hw[0] * DECODER_PIXELS_PER_TOKEN
        return side, side

    @property
    def token_size_hw(self) -> tuple[int, int]:
        """Image tokens: (rows, columns)."""
        side = self.image_size // self.patch_size
        return side, side

    def to_input(self, coords: torch.Tensor) -> torch.Tensor:
        """(..., 2) points (x, y) in original pixels → network pixels, float64."""
        height, width = self.original_size_hw
        x, y = coords.double().unbind(-1)
        return torch.stack([x / width * self.image_size, y / height * self.image_size], dim=-1)

    def on_host(self, image: NDArray[np.uint8]) -> PreparedImage:
        """See `ImageFrame`; the device scales the image."""
        return PreparedImage(self.original_size_hw, torch.tensor(image), None)

    def to_network(self, prepared: PreparedImage, pixels: torch.Tensor) -> tuple[torch.Tensor, NDArray[np.uint8]]:
        """See `ImageFrame`; the image is scaled in floating point, as SAM 2 does it, or to whole grey levels."""
        size = [self.image_size, self.image_size]
        planes = pixels.permute(2, 0, 1)
        if self.rounded:
            # The publisher's own call: on a CPU its fixed point rounds some pixels otherwise than floats would.
            squashed = resize(planes, size).float() / 255
        else:
            scaled = planes[None].float() / 255
            squashed = F.interpolate(scaled, size, mode="bilinear", align_corners=False, antialias=True)[0]
        on_canvas = F.adaptive_avg_pool2d(squashed, self.canvas_size_hw)
        canvas_image = (255 * on_canvas + 0.5).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        mean, deviation = (_per_channel(values)[pixels.device] for values in (self.mean, self.deviation))
        return (squashed - mean) / deviation, canvas_image

    def canvas(self, device: torch.device | str = "cpu") -> Canvas:
        """The canvas, on a device; every decoder pixel is a cell."""
        height, width = self.canvas_size_hw
        cell_index = torch.arange(height * width, device=device).view(height, width)
        return Canvas(cell_index, torch.ones(height * width, device=device), self.original_size_hw)

    def to_original(self, logits: torch.Tensor) -> torch.Tensor:
        """(M, H', W') decoder logits → (M, H, W) float32: SAM 2's `postprocess_masks`."""
        return F.interpolate(logits[:, None].float(), self.original_size_hw, mode="bilinear", align_corners=False)[:, 0]

    def sides(self) -> tuple[Side, Side]:
        """See `ImageFrame`."""
        rows, columns = (
            Side(cells, ((pixels, pixels),))
            for cells, pixels in zip(self.canvas_size_hw, self.original_size_hw, strict=True)
        )
        return rows, columns


@cache
def _per_channel(values: tuple[float, float, float]) -> DeviceConstant:
    """(3, 1, 1) float32."""
    return DeviceConstant([[[value]] for value in values])
