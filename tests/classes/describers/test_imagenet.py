"""The ImageNet describer on real pictures: it tells a cat from a cup, wherever in the picture it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from everymask.backbone.protocol import Canvas
from everymask.classes.describers.imagenet import DIM, imagenet_describer
from everymask.images.decoding import decode_image
from everymask.images.resizing import shrink

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "images"


def pasted(name: str, left: int, top: int) -> tuple[torch.Tensor, Canvas, torch.Tensor]:
    """An example picture on a grey ground of 200 x 200, and the mask of where it lies."""
    small = shrink(decode_image((EXAMPLES / name).read_bytes()), 100)
    ground = np.full((200, 200, 3), 127, np.uint8)
    ground[top : top + small.shape[0], left : left + small.shape[1]] = small
    canvas = Canvas(torch.arange(40000).view(200, 200), torch.ones(40000), (200, 200))
    mask = torch.zeros(200, 200, dtype=torch.bool)
    mask[top : top + small.shape[0], left : left + small.shape[1]] = True
    return torch.from_numpy(ground), canvas, mask.flatten()[None]


def test_the_same_object_elsewhere_is_nearer_than_another_object() -> None:
    describer = imagenet_describer(torch.device("cpu"))
    cat, moved, cup = (
        describer.describe(*pasted(name, left, top))[0]
        for name, left, top in (("cat.webp", 0, 0), ("cat.webp", 77, 81), ("coffee.jpg", 77, 81))
    )
    assert cat.shape == (DIM,)
    similarity = torch.nn.functional.cosine_similarity
    assert similarity(cat, moved, dim=0) > 0.9
    assert similarity(cat, cup, dim=0) < 0.6


def test_empty_masks_and_no_mask_are_described_by_nothing() -> None:
    picture, canvas, mask = pasted("cat.webp", 0, 0)
    describer = imagenet_describer(torch.device("cpu"))
    described = describer.describe(picture, canvas, torch.cat([torch.zeros_like(mask), mask]))
    assert not described[0].any()
    assert described[1].any()
    assert describer.describe(picture, canvas, mask[:0]).shape == (0, DIM)
