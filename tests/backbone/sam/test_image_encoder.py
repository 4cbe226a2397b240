"""The fused image encoder equals the official one."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from everymask.backbone.sam.architecture import SamArchitecture, build_sam
from everymask.backbone.sam.image_encoder import ImageEncoder
from tests.tiny_sam import TINY

SMALL = replace(TINY, image_size=128)


@pytest.mark.parametrize("architecture", [SMALL, replace(SMALL, window_size=14), replace(SMALL, global_blocks=(0, 1))])
@torch.no_grad()
def test_equals_the_official_encoder(architecture: SamArchitecture) -> None:
    official = build_sam(architecture, seed=5).image_encoder
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    expected = official(pixels)
    embeddings = ImageEncoder(copy.deepcopy(official), torch.float32)(pixels)
    assert expected.std() > 0.1
    torch.testing.assert_close(embeddings, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_bf16_stays_close_and_answers_in_float32() -> None:
    official = build_sam(SMALL, seed=5).image_encoder
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    expected = official(pixels)
    embeddings = ImageEncoder(copy.deepcopy(official), torch.bfloat16)(pixels)
    assert embeddings.dtype == torch.float32
    assert (embeddings - expected).abs().mean() < 0.05 * expected.std()
