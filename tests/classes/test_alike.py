"""Boxes as examples of what is looked for, over a small SAM 3: what they change, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.classes.concepts import load_concepts, segment_alike, segment_concepts
from everymask.classes.config import ConceptsConfig
from everymask.classes.examples import ExamplePrompt
from everymask.errors import ConfigurationError, InputError
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from tests.backbone.sam3.tiny import save_tiny_sam3

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8)
LEFT, RIGHT = (5.0, 10.0, 40.0, 50.0), (50.0, 10.0, 85.0, 50.0)
NAMELESS = ConceptsConfig(score_thresh=0.1)
NAMED = ConceptsConfig(("cat",), score_thresh=0.1)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> PromptableBackbone:
    loaded = load_backbone("sam3", save_tiny_sam3(tmp_path_factory.mktemp("sam3")), "cpu")
    load_concepts(loaded, NAMED)
    return loaded


@pytest.fixture(scope="module")
def embedding(backbone: PromptableBackbone) -> ImageEmbedding:
    return backbone.embed([IMAGE])[0]


def scores(labels: ImageLabels) -> list[float]:
    return [mask.score for mask in labels.masks]


def test_boxes_change_the_answer_by_where_they_are_and_by_what_they_say(
    backbone: PromptableBackbone, embedding: ImageEmbedding
) -> None:
    def alike(config: ConceptsConfig, *boxes: tuple[float, float, float, float], meant: str = "") -> list[float]:
        shown = tuple(letter == "+" for letter in meant or "+" * len(boxes))
        found = segment_alike(backbone, embedding, ExamplePrompt(boxes, shown), config)
        assert {mask.class_name for mask in found.masks} == {config.names[0] if config.names else "example"}
        assert found.presence is not None
        assert all(mask.score <= found.presence[0] for mask in found.masks)
        return scores(found)

    by_name = scores(segment_concepts(backbone, embedding, NAMED))
    answers = [
        alike(NAMED, LEFT),
        alike(NAMED, RIGHT),
        alike(NAMELESS, LEFT),
        alike(NAMED, LEFT, RIGHT),
        alike(NAMED, LEFT, RIGHT, meant="+-"),
    ]
    different = {tuple(round(score, 6) for score in one) for one in (by_name, *answers)}
    assert len(different) == 6
    assert alike(NAMED, LEFT) == answers[0], "the image is not changed by being asked"


def test_masks_are_settled_and_lie_in_the_image(backbone: PromptableBackbone, embedding: ImageEmbedding) -> None:
    prompt = ExamplePrompt((LEFT,), (True,))
    settled = segment_alike(backbone, embedding, prompt, NAMED)
    kept = segment_alike(backbone, embedding, prompt, replace(NAMED, overlaps="keep"))
    assert 0 < len(settled.masks) < len(kept.masks)
    assert all(decode_mask(mask.rle).shape == (60, 90) for mask in settled.masks)
    assert segment_alike(backbone, embedding, prompt, replace(NAMED, score_thresh=1.0)).masks == ()


def test_examples_of_no_use_are_one_sentence(backbone: PromptableBackbone, embedding: ImageEmbedding) -> None:
    for boxes, shown, sentence in (
        ((), (), "no box is an example of what is meant"),
        ((LEFT,), (False,), "no box is an example of what is meant; give at least one with label 1"),
        ((LEFT,), (True, True), "every box needs a label: got 1 box and 2 labels"),
        (((40.0, 10.0, 5.0, 50.0),), (True,), r"the box \(40, 10, 5, 50\) is empty"),
        (((float("nan"), 10.0, 5.0, 50.0),), (True,), "is empty"),
        ((LEFT,) * 33, (True,) * 33, "the prompt has 33 boxes; at most 32 are taken"),
    ):
        with pytest.raises(InputError, match=sentence):
            ExamplePrompt(boxes, shown)
    outside = ExamplePrompt(((50.0, 10.0, 91.0, 50.0),), (True,))
    with pytest.raises(InputError, match=r"\(50, 10, 91, 50\) reaches outside the image of 90 x 60 pixels"):
        segment_alike(backbone, embedding, outside, NAMED)
    inside = ExamplePrompt((LEFT,), (True,))
    with pytest.raises(ConfigurationError, match="boxes are examples of one name, or of none; got cat, dog, -tree"):
        segment_alike(backbone, embedding, inside, ConceptsConfig(("cat", "dog"), negatives=("tree",)))
    with pytest.raises(ConfigurationError, match="nano knows no concepts"):
        segment_alike(load_backbone("nano"), embedding, inside, NAMED)
