"""Image tokens sampled at points and averaged under masks."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from everymask.backbone.sam.frame import DECODER_PIXELS_PER_TOKEN, ImageFrame


def sample_tokens(frame: ImageFrame, tokens: torch.Tensor, point_coords: torch.Tensor) -> torch.Tensor:
    """(N, C) float32: (C, S, S) image tokens read bilinearly at points (N, 2), (x, y) in original pixels."""
    rows, columns = frame.token_size_hw
    features = tokens[:, :rows, :columns].float()
    extent = torch.tensor([columns, rows], device=tokens.device) * frame.patch_size
    grid = 2 * frame.to_input(point_coords) / extent - 1
    sampled = F.grid_sample(
        features[None], grid.float()[None, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[0, :, 0].t()


def pool_tokens(frame: ImageFrame, tokens: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """(M, C) float32: (C, S, S) image tokens averaged under (M, H', W') bool canvas masks; zeros for an empty mask."""
    rows, columns = frame.token_size_hw
    height, width = frame.canvas_size_hw
    per_token = DECODER_PIXELS_PER_TOKEN
    pixels = F.pad(masks.float(), (0, columns * per_token - width, 0, rows * per_token - height))
    weights = pixels.view(-1, rows, per_token, columns, per_token).sum(dim=(2, 4)).flatten(1)
    features = tokens[:, :rows, :columns].float().flatten(1).t()
    return weights @ features / weights.sum(1, keepdim=True).clamp_min(1)
