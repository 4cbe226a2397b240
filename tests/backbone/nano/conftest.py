"""The shipped model, and a picture of simple shapes whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from everymask.backbone.nano import NanoBackbone, load_nano
from everymask.backbone.protocol import ImageEmbedding


@pytest.fixture(scope="session")
def nano() -> NanoBackbone:
    return load_nano(None, torch.device("cpu"))


@pytest.fixture(scope="session")
def shapes() -> NDArray[np.uint8]:
    """(120, 160, 3): a red disc of radius 30 around (50, 60) and a blue box on a grey, faintly noisy ground."""
    noise = np.random.default_rng(0).integers(-4, 5, size=(120, 160, 3))
    image = np.full((120, 160, 3), 128)
    rows, columns = np.mgrid[:120, :160]
    image[(columns - 50) ** 2 + (rows - 60) ** 2 < 30**2] = (200, 40, 40)
    image[30:90, 105:145] = (40, 60, 190)
    return (image + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def embedding(nano: NanoBackbone, shapes: NDArray[np.uint8]) -> ImageEmbedding:
    return nano.embed([shapes])[0]
