from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torch.nn.functional import normalize

from everymask.classes.describers.imagenet import imagenet_describer
from everymask.classes.exemplars.likeness import ALIKE, MIN_PICTURES, likeness

CPU = torch.device("cpu")


def views(picture: NDArray[np.uint8], count: int) -> list[NDArray[np.uint8]]:
    """The same thing again and again: moved a little, and lighter or darker."""
    return [(picture[i : i - 20, 20 - i : -i - 1] * (0.8 + 0.02 * i)).astype(np.uint8) for i in range(1, count + 1)]


def test_views_of_one_thing_are_alike_and_different_things_are_not() -> None:
    astronaut, cat, coffee, rocket = data.astronaut(), data.cat(), data.coffee(), data.rocket()
    alike = likeness(views(astronaut, MIN_PICTURES), CPU)
    assert alike is not None
    assert alike > ALIKE
    different = likeness([view for picture in (astronaut, cat, coffee, rocket) for view in views(picture, 2)], CPU)
    assert different is not None
    assert different < ALIKE


def test_it_is_the_mean_over_pairs() -> None:
    pictures = [data.astronaut()[i::40, ::2] for i in range(MIN_PICTURES)]
    described = normalize(imagenet_describer(CPU).describe_pictures(pictures), dim=1)
    pairs = [float(described[i] @ described[j]) for i in range(len(pictures)) for j in range(i)]
    assert likeness(pictures, CPU) == pytest.approx(np.mean(pairs), abs=1e-4)


def test_a_few_pictures_say_nothing() -> None:
    assert likeness(views(data.cat(), MIN_PICTURES - 1), CPU) is None
