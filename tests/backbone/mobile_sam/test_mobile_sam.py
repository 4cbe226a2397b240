"""Our MobileSAM equals the code it was published with, on the same random weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from everymask.backbone.registry import load_backbone
from everymask.backbone.sam import SamBackbone
from everymask.backbone.sam.architecture import randomise
from everymask.errors import CheckpointError
from tests.tiny_sam import write_tiny_checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It imports from timm's former places.
    from mobile_sam import SamPredictor, sam_model_registry

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def official() -> Any:
    sam = sam_model_registry["vit_t"]()
    randomise(sam, seed=0)
    # Its modules cache their attention biases when they enter evaluation mode.
    return sam.train().eval()


@pytest.fixture(scope="module")
def checkpoint(official: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mobile_sam") / "mobile_sam.pt"
    torch.save(official.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def backbone(checkpoint: Path) -> SamBackbone:
    loaded = load_backbone("mobile_sam", checkpoint, "cpu")
    assert isinstance(loaded, SamBackbone)
    return loaded


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (150, 220, 3)).astype(np.uint8)


@torch.no_grad()
def test_clicks_give_what_mobile_sam_gives(backbone: SamBackbone, official: Any, image: NDArray[np.uint8]) -> None:
    predictor = SamPredictor(official)
    predictor.set_image(image)
    embedding = backbone.embed([image])[0]
    features = float((embedding.features["image"] - predictor.features[0]).abs().max())
    assert features < TOLERANCE * float(predictor.features.abs().max())

    points = torch.tensor([[20.0, 30.0], [110.0, 75.0], [219.0, 149.0]])
    answers = backbone.decode_points(embedding, points)
    coords = predictor.transform.apply_coords_torch(points, image.shape[:2])[:, None]
    masks, iou, _ = predictor.predict_torch(coords, torch.ones(len(points), 1), return_logits=True)
    logits = backbone.full_resolution_logits(embedding, answers.logits.flatten(0, 1))
    worst = float((logits - masks.flatten(0, 1)).abs().max()) / float(masks.abs().max())
    worst_iou = float((answers.predicted_iou - iou).abs().max())
    print(f"worst differences: features {features:.2g}, logits {worst:.2g} of their range, IoU {worst_iou:.2g}")
    assert worst < TOLERANCE
    assert worst_iou < TOLERANCE


def test_weights_of_another_family_are_named(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="looks like vit_b or vit_l or vit_h"):
        load_backbone("mobile_sam", write_tiny_checkpoint(tmp_path), "cpu")
    with pytest.raises(CheckpointError, match="looks like mobile_sam"):
        load_backbone("vit_b", checkpoint, "cpu")


def test_a_missing_tensor_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    tensors = torch.load(checkpoint, weights_only=True)
    del tensors["image_encoder.neck.0.weight"]
    torch.save(tensors, tmp_path / "headless.pt")
    with pytest.raises(CheckpointError, match=r"headless\.pt does not fit MobileSAM .*neck"):
        load_backbone("mobile_sam", tmp_path / "headless.pt", "cpu")
