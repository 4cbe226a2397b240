from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from everymask.backbone.protocol import ImageEmbedding, PromptMasks
from everymask.entities.amg import segment_amg
from everymask.entities.config import EntityConfig
from everymask.entities.segmenter import segment_entities
from everymask.errors import ConfigurationError, ModelOutputError
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_embedding, label_images
from everymask.records import ImageLabels
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

SIZE = (12, 16)
LEFT, RIGHT = rectangle(SIZE, 0, 0, 8, 12), rectangle(SIZE, 8, 0, 16, 12)
CONFIG = LabelConfig(entities=EntityConfig(points_per_side=4, gallery_points_per_side=8))
EMBEDS_TO_NAN, DECODES_TO_NAN = 13, 14


@dataclass
class DelicateBackbone(ScriptedBackbone):
    """Fails, as the protocol says, on images whose first pixel asks for it."""

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        if any(image[0, 0, 0] == EMBEDS_TO_NAN for image in images):
            raise ModelOutputError("scripted gave NaN for an image")
        return super().embed(images)

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        if embedding.canvas_image[0, 0, 0] == DECODES_TO_NAN:
            raise ModelOutputError("scripted gave NaN for a prompt")
        return super().decode_points(embedding, point_coords)


def backbone() -> DelicateBackbone:
    return DelicateBackbone([Reply.one(LEFT, 0.9), Reply.one(RIGHT, 0.95)], painted(SIZE, RIGHT))


def image(value: int = 0) -> NDArray[np.uint8]:
    return np.full((*SIZE, 3), value, dtype=np.uint8)


@pytest.mark.parametrize("bad", [EMBEDS_TO_NAN, DECODES_TO_NAN])
def test_an_image_the_model_fails_on_does_not_spoil_its_neighbours(bad: int) -> None:
    alone = label_images(backbone(), [image()], CONFIG)[0]
    first, failed, last = label_images(backbone(), [image(), image(bad), image()], CONFIG)
    assert isinstance(failed, ModelOutputError)
    assert isinstance(alone, ImageLabels)
    assert first == last == alone
    assert len(alone.masks) == 2


def test_a_batch_of_one_bad_image_is_one_error_and_no_image_no_answer() -> None:
    (failed,) = label_images(backbone(), [image(EMBEDS_TO_NAN)], CONFIG)
    assert str(failed) == "scripted gave NaN for an image"
    assert label_images(backbone(), [], CONFIG) == []


def test_the_method_chooses_the_segmenter() -> None:
    model = backbone()
    embedding = model.embed([image()])[0]
    assert label_embedding(model, embedding, CONFIG) == segment_entities(model, embedding, CONFIG.entities)
    amg = LabelConfig(method="amg")
    assert label_embedding(model, embedding, amg) == segment_amg(model, embedding, amg.amg)


def test_classes_need_a_head() -> None:
    with pytest.raises(ConfigurationError, match="needs a class head"):
        label_images(backbone(), [image()], LabelConfig(method="classes"))
