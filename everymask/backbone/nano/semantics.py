"""The semantic branch of `nano`: what the encoder's features say about classes, beside what masks need of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from everymask.backbone.nano.encoder import STRIDES, ConvEncoder, ResidualBlock
from everymask.backbone.nano.regions import IntArray
from everymask.backbone.nano.tokens import cell_weights
from everymask.errors import ModelOutputError

ENLARGEMENT = 1.6
"""Of the canvas, for this branch alone: objects of a scene are then as large as those of single-object pictures."""
_GRID_PER_SQUARE = 2
"""The map is read bilinearly at so many times its own resolution, so that small cells differ from their neighbours."""


@dataclass(frozen=True)
class SemanticsConfig:
    """Sizes of the semantic branch."""

    channels: int = 88
    """Channels of all its layers and of its output."""
    blocks: int = 3
    """Residual blocks at stride 16."""


class SemanticBranch(nn.Module):
    """The encoder's maps at strides 8, 16 and 32 → (B, channels, H/16, W/16), sizes rounded up. Nothing flows back."""

    def __init__(self, config: SemanticsConfig, encoder_channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.config = config
        self.mix = nn.Sequential(
            nn.Conv2d(sum(encoder_channels[1:]), config.channels, 1, bias=False),
            nn.BatchNorm2d(config.channels),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(*[ResidualBlock(config.channels) for _ in range(config.blocks)])

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Of the encoder's four (B, C_s, H/s, W/s) maps the last three are read; stride 4 may be left out."""
        fine, middle, coarse = features[-3:]
        # Rounded up like the encoder's own halvings, so that odd sizes meet those of stride 16.
        fine = functional.avg_pool2d(fine, 2, ceil_mode=True)
        coarse = functional.interpolate(coarse, size=middle.shape[-2:], mode="bilinear", align_corners=False)
        mixed: torch.Tensor = self.blocks(self.mix(torch.cat([fine, middle, coarse], dim=1)))
        return mixed


def semantic_image(image: NDArray[np.uint8], canvas_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 at `ENLARGEMENT` times the canvas, sides rounded to multiples of the coarsest stride."""
    step = STRIDES[-1]
    height, width = (max(step, round(side * ENLARGEMENT / step) * step) for side in canvas_hw)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))


@torch.inference_mode()
def describe_cells(
    image: NDArray[np.uint8], cells: IntArray, encoder: ConvEncoder, branch: SemanticBranch
) -> torch.Tensor:
    """What the branch says of an image (H, W, 3) uint8, averaged over the cells (H', W') of its canvas: (P, S) float32.

    Raises:
        ModelOutputError: the branch produced NaN or infinity.
    """
    device = next(branch.parameters()).device
    enlarged = semantic_image(image, (cells.shape[0], cells.shape[1]))
    pixels = torch.from_numpy(enlarged.copy()).to(device).permute(2, 0, 1)[None].float()
    maps = branch(encoder.features(pixels))
    if not bool(maps.isfinite().all()):
        raise ModelOutputError("nano's semantic branch produced NaN or infinity; check the checkpoint's weights")
    grid = functional.interpolate(maps, scale_factor=_GRID_PER_SQUARE, mode="bilinear", align_corners=False)[0]
    grid_hw = (grid.shape[1], grid.shape[2])
    rows, columns = (np.arange(side) * squares // side for side, squares in zip(cells.shape, grid_hw, strict=True))
    return cell_weights(cells, rows, columns, grid_hw).to(device) @ grid.flatten(1).T
