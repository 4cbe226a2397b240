"""SAM + CLIP on a small CLIP of real components: its probabilities are those of transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from everymask.backbone.embedding import embed_images
from everymask.backbone.protocol import ImageEmbedding
from everymask.classes.config import ClipConfig, MaskConfig
from everymask.classes.describers.clip import ClipDescriber
from everymask.classes.names import segment_names
from everymask.errors import ConfigurationError
from everymask.masks.rle import decode_mask
from tests.classes.tiny_clip import save_tiny_clip
from tests.classes.toy import ColourBackbone, picture

IMAGE = picture([("cherry", (4, 6, 20, 18)), ("lime", (26, 20, 40, 36))])
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ClipConfig:
    model = save_tiny_clip(tmp_path_factory.mktemp("clip"))
    return ClipConfig(("cherry", "lime"), str(model), score_thresh=0.0, masks=MaskConfig(points_per_side=8))


@pytest.fixture(scope="module")
def embedding() -> ImageEmbedding:
    (made,) = embed_images(ColourBackbone(), [IMAGE], keep_picture=True)
    assert isinstance(made, ImageEmbedding)
    return made


def test_probabilities_are_those_that_transformers_gives_the_masked_picture(
    config: ClipConfig, embedding: ImageEmbedding
) -> None:
    from transformers import CLIPModel, CLIPProcessor

    canvas = embedding.canvas
    masks = torch.eye(canvas.num_cells, dtype=torch.bool)
    ours = ClipDescriber(config.model, config.names, config.prompt, CPU).probabilities(
        torch.from_numpy(IMAGE), canvas, masks, config
    )
    regions = canvas.to_pixels(masks).numpy().repeat(2, axis=1).repeat(2, axis=2)
    pooled = [IMAGE * region[:, :, None] for region in regions]
    processor = CLIPProcessor.from_pretrained(config.model)
    inputs = processor(
        text=[config.prompt.replace("{c}", name) for name in config.names],
        images=pooled,
        return_tensors="pt",
        padding=True,
    )
    with torch.inference_mode():
        theirs = CLIPModel.from_pretrained(config.model)(**inputs).logits_per_image.softmax(dim=-1)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)


def test_masks_are_named_and_suppressed_within_a_name(config: ClipConfig, embedding: ImageEmbedding) -> None:
    labels = segment_names(ColourBackbone(), embedding, config)
    assert labels.masks
    assert {mask.class_name for mask in labels.masks} <= {"cherry", "lime"}
    for mask in labels.masks:
        assert mask.score >= 0.5  # of two names one is the likelier
        for other in labels.masks:
            if other is not mask and other.class_id == mask.class_id:
                a, b = decode_mask(mask.rle), decode_mask(other.rle)
                assert np.logical_and(a, b).sum() <= config.nms_iou_thresh * np.logical_or(a, b).sum()


def test_what_looks_like_background_is_compared_and_not_labelled(config: ClipConfig, embedding: ImageEmbedding) -> None:
    plain = segment_names(ColourBackbone(), embedding, config)
    beside = segment_names(ColourBackbone(), embedding, replace(config, names=(*config.names, "background")))
    assert {mask.class_name for mask in beside.masks} <= {"cherry", "lime"}
    assert all(mask.score < 1 for mask in beside.masks)
    assert len(beside.masks) <= len(plain.masks)


def test_batches_and_views_change_what_they_should(config: ClipConfig, embedding: ImageEmbedding) -> None:
    backbone = ColourBackbone()
    together = segment_names(backbone, embedding, config)
    alone = segment_names(backbone, embedding, replace(config, batch_size=1))
    assert [mask.rle for mask in alone.masks] == [mask.rle for mask in together.masks]
    assert [mask.score for mask in alone.masks] == pytest.approx([mask.score for mask in together.masks], abs=1e-3)
    assert segment_names(backbone, embedding, replace(config, view="crop")).masks


def test_bad_names_and_models_are_one_sentence(config: ClipConfig, embedding: ImageEmbedding, tmp_path: Path) -> None:
    backbone = ColourBackbone()
    with pytest.raises(ConfigurationError, match="at least two; got cherry"):
        segment_names(backbone, embedding, replace(config, names=("cherry",)))
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        segment_names(backbone, embedding, replace(config, model=str(tmp_path)))
    with pytest.raises(ConfigurationError, match="too long for CLIP"):
        segment_names(backbone, embedding, replace(config, names=("cherry", "lime" * 40)))
    with pytest.raises(ConfigurationError, match="must be different"):
        ClipConfig(("cherry", "cherry"))
