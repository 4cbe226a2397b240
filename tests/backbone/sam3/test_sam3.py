"""Our SAM 3 equals `Sam3TrackerModel` of `transformers` on the same random weights, in a small size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Sam3TrackerConfig,
    Sam3TrackerMaskDecoderConfig,
    Sam3TrackerModel,
    Sam3TrackerPromptEncoderConfig,
)

from everymask.backbone.registry import load_backbone
from everymask.backbone.sam.architecture import randomise
from everymask.backbone.sam2.frame import SquashedFrame
from everymask.backbone.sam3 import Sam3Backbone, build_sam3
from everymask.backbone.sam3.architecture import vision_config
from everymask.backbone.sam3.checkpoint import with_our_names
from everymask.errors import CheckpointError
from tests.backbone.sam3.tiny import TINY

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def reference() -> Any:
    model = Sam3TrackerModel(
        Sam3TrackerConfig(
            vision_config=vision_config(TINY),
            prompt_encoder_config=Sam3TrackerPromptEncoderConfig(
                hidden_size=TINY.prompt_width, image_size=TINY.image_size, patch_size=TINY.patch_size
            ),
            mask_decoder_config=Sam3TrackerMaskDecoderConfig(
                hidden_size=TINY.prompt_width, mlp_dim=TINY.decoder_mlp_width, iou_head_hidden_dim=TINY.iou_head_width
            ),
        )
    ).eval()
    randomise(model, seed=0)
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(model.shared_image_embedding.positional_embedding)
    return model


def published_names(model: Any) -> dict[str, torch.Tensor]:
    """The tensors under the names of `facebook/sam3`, with some of the parts that clicks do not need."""
    tensors = {"detector_model.text_encoder.weight": torch.zeros(1), "tracker_neck.fpn_layers.3.weight": torch.zeros(1)}
    for name, tensor in model.state_dict().items():
        if name.startswith("vision_encoder.backbone."):
            name = "detector_model." + name
        elif name.startswith("vision_encoder.neck."):
            name = "tracker_neck." + name.removeprefix("vision_encoder.neck.")
        else:
            name = "tracker_model." + name
        tensors[name] = tensor
    return tensors


@torch.no_grad()
def test_clicks_give_what_transformers_gives(reference: Any) -> None:
    sam = build_sam3(TINY)
    sam.load_state_dict(with_our_names(published_names(reference)))
    backbone = Sam3Backbone(sam, name="sam3", weights_sha256="0" * 64, device=torch.device("cpu"))
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
    frame = SquashedFrame((60, 90), TINY.image_size, TINY.patch_size, (0.5,) * 3, (0.5,) * 3, rounded=True)
    prepared = frame.on_host(image)
    pixels = frame.to_network(prepared, prepared.pixels)[0][None]
    points = torch.tensor([[0.0, 0.0], [45.0, 20.0], [89.0, 59.0]])
    embedding = backbone.embed([image])[0]
    answers = backbone.decode_points(embedding, points)
    wanted = reference(
        pixel_values=pixels,
        input_points=(points / torch.tensor([90.0, 60.0]) * TINY.image_size)[None, :, None],
        input_labels=torch.ones(1, len(points), 1, dtype=torch.int64),
    )
    masks = wanted.pred_masks[0].flatten(2)
    worst = float((answers.logits - masks).abs().max()) / float(masks.abs().max())
    worst_iou = float((answers.predicted_iou - wanted.iou_scores[0]).abs().max())
    print(f"worst differences: logits {worst:.2g} of their range, predicted IoU {worst_iou:.2g}")
    assert worst < TOLERANCE
    assert worst_iou < TOLERANCE
    # A token is 14 network pixels, and four decoder pixels, so that these are not whole network pixels.
    assert embedding.canvas.size_hw == (32, 32)
    everywhere = torch.ones(1, embedding.canvas.num_cells, dtype=torch.bool)
    mean = embedding.features["image"].flatten(1).mean(1)
    assert torch.allclose(backbone.pool_features(embedding, everywhere)[0], mean, atol=1e-4 * float(mean.abs().max()))


def test_without_a_token_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("EVERYMASK_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"gated, under the SAM License.*set HF_TOKEN, or give a file"):
        load_backbone("sam3", device="cpu")
    assert not list(tmp_path.iterdir())
