"""Sizes read off a checkpoint are those it was built with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from everymask.backbone.sam.architecture import SamArchitecture, build_sam, infer_architecture
from everymask.errors import CheckpointError
from tests.tiny_sam import TINY

ANOTHER = SamArchitecture(
    image_size=96,
    patch_size=8,
    encoder_width=24,
    encoder_depth=3,
    encoder_heads=3,
    encoder_mlp_width=36,
    global_blocks=(0, 2),
    window_size=7,
    prompt_width=64,
    decoder_depth=3,
    decoder_mlp_width=40,
    iou_head_depth=2,
    iou_head_width=20,
    mask_prompt_channels=8,
)


@pytest.mark.parametrize("architecture", [TINY, ANOTHER, replace(TINY, window_size=32)])
def test_infers_what_was_built(architecture: SamArchitecture) -> None:
    inferred = infer_architecture(build_sam(architecture).state_dict(), "test")
    rebuilt = build_sam(inferred)
    rebuilt.load_state_dict(build_sam(architecture, seed=1).state_dict())
    if architecture != replace(
        TINY, window_size=32
    ):  # There every window is the whole image, so all blocks are global.
        assert inferred == architecture


@pytest.mark.parametrize("missing", ["image_encoder.pos_embed", "mask_decoder.transformer.layers.0.mlp.lin1.weight"])
def test_names_the_tensor_a_sam_would_have(missing: str) -> None:
    tensors = build_sam(TINY).state_dict()
    del tensors[missing]
    with pytest.raises(CheckpointError, match=missing.replace(".", r"\.")):
        infer_architecture(tensors, "other.pth")


def test_a_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (build_sam(TINY, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
