"""A head from pictures in memory reads of their masks what it is told to."""

from __future__ import annotations

import numpy as np
import pytest

from everymask.backbone.sam import SamBackbone
from everymask.classes.config import MaskConfig
from everymask.classes.training.pictures import train_on_pictures
from everymask.classes.training.train import TrainingConfig
from everymask.errors import ConfigurationError
from tests.serve.pictures import picture

FEW = MaskConfig(points_per_side=2, max_masks=4, describer="crop")


@pytest.mark.parametrize("features", ["token", "token+crop"])
def test_a_head_is_trained_on_few_pictures_of_each_class(tiny_sam: SamBackbone, features: str) -> None:
    pictures = {
        name: [np.asarray(picture(10 * start + number)) for number in range(3)]
        for start, name in enumerate(("cat", "dog"))
    }
    config = TrainingConfig(features=features, epochs=1, hidden_dim=8)
    result = train_on_pictures(pictures, tiny_sam, config, FEW)
    assert (result.head.spec.classes, result.head.spec.features) == (("cat", "dog"), features)
    of_crops = result.head.input_deviation[-1280:] if features == "token+crop" else None
    # What is the same for every mask, as without a picture to cut crops from, has no scale.
    assert of_crops is None or bool((of_crops != of_crops[0]).any())


def test_a_class_without_a_picture_is_refused(tiny_sam: SamBackbone) -> None:
    with pytest.raises(ConfigurationError):
        train_on_pictures({"cat": [np.asarray(picture(1))], "dog": []}, tiny_sam, TrainingConfig(epochs=1), FEW)
