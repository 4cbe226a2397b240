"""Enlarging by products gives what the frames' own interpolation gives, up to rounding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from everymask.backbone.sam.enlarging import enlarge
from everymask.backbone.sam.frame import Frame, ImageFrame
from everymask.backbone.sam2.frame import SquashedFrame

SIZES_HW = [(480, 640), (640, 427), (1, 1), (3, 700), (333, 500), (1333, 2000)]


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize("frame_of", [Frame, SquashedFrame])
def test_enlarged_logits_are_the_frames_own(size_hw: tuple[int, int], frame_of: type[Frame | SquashedFrame]) -> None:
    frame: ImageFrame = frame_of(size_hw, 1024, 16)
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.randn(1, 2, 9, 9, generator=generator), frame.canvas_size_hw, mode="bilinear")[0]
    logits = 5 * (smooth + 0.2 * torch.randn(2, *frame.canvas_size_hw, generator=generator))
    expected, enlarged = frame.to_original(logits), enlarge(logits, *frame.sides())
    assert enlarged.shape == expected.shape == (2, *size_hw)
    torch.testing.assert_close(enlarged, expected, atol=2e-5, rtol=0)
