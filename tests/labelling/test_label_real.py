"""Labelling with the built-in model: inputs at the edge of what an image is, and one answer lazily and eagerly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage import data

from everymask.backbone.protocol import PromptableBackbone
from everymask.backbone.registry import load_backbone
from everymask.entities.config import EntityConfig
from everymask.evaluation.disjoint import overlapping_pixels
from everymask.labelling.config import LabelConfig, MethodName
from everymask.labelling.label import label_images
from everymask.records import ImageLabels

SMALL = EntityConfig(points_per_side=8, gallery_points_per_side=12)


@pytest.fixture(scope="module")
def nano() -> PromptableBackbone:
    return load_backbone("nano", device="cpu")


@pytest.mark.parametrize("method", ["entities", "amg"])
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 5000), (3, 2), (64, 48)])
def test_tiny_thin_and_black_images_are_labelled(
    nano: PromptableBackbone, size_hw: tuple[int, int], method: MethodName
) -> None:
    (labels,) = label_images(nano, [np.zeros((*size_hw, 3), np.uint8)], LabelConfig(method=method, entities=SMALL))
    assert isinstance(labels, ImageLabels)
    assert labels.size_hw == size_hw
    assert 0 <= labels.coverage <= 1


def test_a_photograph_has_the_same_disjoint_entities_lazily_and_eagerly(nano: PromptableBackbone) -> None:
    photograph = np.ascontiguousarray(data.coffee()[::3, ::3])
    lazy, eager = (
        label_images(nano, [photograph], LabelConfig(entities=replace(SMALL, lazy_gallery=lazy)))[0]
        for lazy in (True, False)
    )
    assert isinstance(lazy, ImageLabels)
    assert lazy == eager
    assert len(lazy.masks) > 1
    assert overlapping_pixels(lazy.masks) == 0
