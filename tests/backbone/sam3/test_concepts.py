"""Names answered by a small SAM 3: as its network answers them, one by one as together, and refused in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer, Sam3ImageProcessor, Sam3Model, Sam3Processor, Sam3VideoConfig

from everymask.backbone.registry import load_backbone
from everymask.backbone.sam3 import Sam3Backbone
from everymask.errors import CheckpointError, ConfigurationError
from tests.backbone.sam3.tiny import QUERIES, TINY

TOLERANCE = 1e-4
NAMES = ("cat", "dog", "yellow bus")
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def backbone(tiny_sam3: Path) -> Sam3Backbone:
    loaded = cast(Sam3Backbone, load_backbone("sam3", tiny_sam3, "cpu"))
    loaded.load_concepts()
    return loaded


def transformers_model(weights: Path) -> tuple[Any, Any]:
    """`Sam3Model` and its processor."""
    config = Sam3VideoConfig.from_pretrained(weights.parent).detector_config
    model: Any = Sam3Model(config).eval()
    own = {name.removeprefix("detector_model."): tensor for name, tensor in load_file(weights).items()}
    model.load_state_dict({name: own[name] for name in model.state_dict()})
    size = {"height": TINY.image_size, "width": TINY.image_size}
    tokenizer = CLIPTokenizer.from_pretrained(weights.parent / "vocabulary")
    return model, Sam3Processor(Sam3ImageProcessor(size=size), tokenizer)


def transformers_answers(weights: Path, names: tuple[str, ...]) -> Any:
    """What `Sam3Model` says of the image, for prompts with an example that is padding: then its token is there, too."""
    model, processor = transformers_model(weights)
    inputs = processor(images=[IMAGE] * len(names), text=list(names), return_tensors="pt")
    inputs = {name: inputs[name] for name in ("pixel_values", "input_ids", "attention_mask")}
    count = len(names)
    with torch.no_grad():
        return model(**inputs, input_boxes=torch.zeros(count, 1, 4), input_boxes_labels=torch.full((count, 1), -10))


def test_boxes_as_examples_get_what_transformers_gives_them(backbone: Sam3Backbone, tiny_sam3: Path) -> None:
    boxes, labels = [[5.0, 10.0, 40.0, 50.0], [50.0, 20.0, 85.0, 58.0]], [1, 0]
    model, processor = transformers_model(tiny_sam3)
    inputs = processor(
        images=[IMAGE], text=["cat"], input_boxes=[boxes], input_boxes_labels=[labels], return_tensors="pt"
    )
    wanted_by = ("pixel_values", "input_ids", "attention_mask", "input_boxes", "input_boxes_labels")
    with torch.no_grad():
        wanted = model(**{name: inputs[name] for name in wanted_by})
    (embedding,) = backbone.embed([IMAGE])
    view = backbone.view_for_concepts(embedding)
    found = backbone.find_alike(view, torch.tensor(boxes), torch.tensor(labels).bool(), "cat", 0.0)
    presence = wanted.presence_logits.sigmoid()
    masks = wanted.pred_masks[0].flatten(1)
    assert float((found.logits - masks).abs().max()) < TOLERANCE * float(masks.abs().max())
    assert float((found.scores - wanted.pred_logits[0].sigmoid() * presence[0]).abs().max()) < TOLERANCE
    assert found.presence == pytest.approx(float(presence[0]), abs=TOLERANCE)


def test_names_get_what_transformers_gives_them(backbone: Sam3Backbone, tiny_sam3: Path) -> None:
    (embedding,) = backbone.embed([IMAGE])
    found = backbone.find_concepts(backbone.view_for_concepts(embedding), NAMES, 0.0)
    wanted = transformers_answers(tiny_sam3, NAMES)
    presence = wanted.presence_logits.sigmoid()
    scores = wanted.pred_logits.sigmoid() * presence
    for row, answer in enumerate(found):
        masks = wanted.pred_masks[row].flatten(1)
        assert answer.logits.shape == masks.shape == (QUERIES, embedding.canvas.num_cells)
        assert float((answer.logits - masks).abs().max()) < TOLERANCE * float(masks.abs().max())
        assert float((answer.scores - scores[row]).abs().max()) < TOLERANCE
        assert answer.presence == pytest.approx(float(presence[row]), abs=TOLERANCE)


def test_a_name_gets_the_same_answer_alone(backbone: Sam3Backbone) -> None:
    (embedding,) = backbone.embed([IMAGE])
    view = backbone.view_for_concepts(embedding)
    for name, together in zip(NAMES, backbone.find_concepts(view, NAMES, 0.0), strict=True):
        (alone,) = backbone.find_concepts(view, [name], 0.0)
        assert torch.allclose(alone.logits, together.logits, atol=1e-4)
        assert torch.allclose(alone.scores, together.scores, atol=1e-5)
        least = float(alone.scores.median())
        (fewer,) = backbone.find_concepts(view, [name], least)
        assert torch.equal(fewer.scores, alone.scores[alone.scores >= least])
        assert fewer.left_out == pytest.approx(float(alone.scores[alone.scores < least].sum()), abs=1e-5)
        (none,) = backbone.find_concepts(view, [name], 1.0)
        assert none.logits.shape == (0, embedding.canvas.num_cells)


def test_clicks_are_answered_as_before(backbone: Sam3Backbone, tiny_sam3: Path) -> None:
    """An embedding that names are answered from gives clicks the same answer, and is larger by the trunk alone."""
    plain = load_backbone("sam3", tiny_sam3, "cpu")
    points = torch.tensor([[45.0, 20.0]])
    ours, (theirs,) = backbone.embed([IMAGE])[0], plain.embed([IMAGE])
    assert set(ours.features) - set(theirs.features) == {"trunk"}
    assert torch.equal(backbone.decode_points(ours, points).logits, plain.decode_points(theirs, points).logits)


def test_a_name_has_at_most_32_tokens(backbone: Sam3Backbone) -> None:
    backbone.check_names(["a" * 30])  # letters are tokens here
    with pytest.raises(ConfigurationError, match=r"has 33 tokens.*SAM 3 reads 32; say it in fewer words"):
        backbone.check_names(["cat", "a" * 31])


def test_what_is_missing_is_named(tiny_sam3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for name in ("model.safetensors", "config.json"):
        shutil.copy(tiny_sam3.with_name(name), tmp_path)
    weights = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match=r"put tokenizer.json of facebook/sam3 beside .*, or set HF_TOKEN"):
        cast(Sam3Backbone, load_backbone("sam3", weights, "cpu")).load_concepts()
    shutil.copy(tiny_sam3.with_name("tokenizer.json"), tmp_path)
    tensors = load_file(weights)
    clicks_only = {name: tensor for name, tensor in tensors.items() if ".detr_" not in name}
    save_file(clicks_only, weights)
    with pytest.raises(CheckpointError, match="has no detector of concepts, only SAM 3's tracker"):
        cast(Sam3Backbone, load_backbone("sam3", weights, "cpu")).load_concepts()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"is no tokenizer.json"):
        cast(Sam3Backbone, load_backbone("sam3", weights, "cpu")).load_concepts()
