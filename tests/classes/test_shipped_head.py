"""The class head in the box: it must fit the model that is in the box, and find a cat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data

from everymask.backbone.nano import SHIPPED_WEIGHTS, NanoBackbone, load_nano
from everymask.classes.head import check_backbone, load_head
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.records import ImageLabels
from serve.heads import Heads
from serve.settings import HOME, read_settings
from serve.tasks import ModelDescription

HEAD = HOME / "everymask/classes/heads/everyday.safetensors"


@pytest.fixture(scope="module")
def nano() -> NanoBackbone:
    return load_nano(SHIPPED_WEIGHTS, torch.device("cpu"))


def test_it_was_trained_with_the_shipped_weights(nano: NanoBackbone) -> None:
    """After another training of nano: train the class head anew, too (everymask/classes/heads/README.md)."""
    check_backbone(load_head(HEAD).spec, nano.name, nano.weights_sha256)


def test_the_service_offers_it_by_default(nano: NanoBackbone) -> None:
    running = ModelDescription(nano.name, nano.weights_sha256, "cpu")
    offered = {item.name: item for item in Heads(read_settings({}).head_folders).list(running)}
    assert offered["everyday"].usable
    assert "cat" in offered["everyday"].classes


def test_it_finds_a_cat(nano: NanoBackbone) -> None:
    (labels,) = label_images(nano, [np.asarray(data.cat())], LabelConfig("classes"), load_head(HEAD))
    assert isinstance(labels, ImageLabels)
    area = {mask.class_name: mask.area for mask in sorted(labels.masks, key=lambda mask: mask.area)}
    assert max(area, key=lambda name: area[name]) == "cat"
    assert area["cat"] > 0.2 * labels.size_hw[0] * labels.size_hw[1]
