"""The grid of prompts covers every image, whatever its shape and however a model scales it.

A grid laid over the longer side of an image that a model squashes to a square never reaches its lower quarter; so it is
checked here where a prompt lands in what the model sees.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.backbone.points import point_grid
from everymask.backbone.protocol import Canvas
from everymask.backbone.registry import load_backbone
from everymask.backbone.sam.frame import Frame, ImageFrame
from everymask.backbone.sam2.frame import SquashedFrame

CPU = torch.device("cpu")
FRAMES: dict[str, Callable[[tuple[int, int]], ImageFrame]] = {
    "sam, mobile_sam": partial(Frame, image_size=1024, patch_size=16),
    "sam2": partial(SquashedFrame, image_size=1024, patch_size=16),
    "sam3": partial(SquashedFrame, image_size=1008, patch_size=14, rounded=True),
}
SHAPES = st.tuples(st.integers(30, 400), st.integers(30, 400)).filter(lambda hw: 1 / 3 <= hw[0] / hw[1] <= 3)


def nine_objects(size_hw: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A picture with a grey object in the middle of each ninth, and the (H, W) map of them, -1 elsewhere."""
    height, width = size_hw
    ys, xs = np.mgrid[:height, :width]
    rows, columns = 3 * (ys + 0.5) / height, 3 * (xs + 0.5) / width
    inside = (abs(rows % 1 - 0.5) < 0.3) & (abs(columns % 1 - 0.5) < 0.3)
    objects = np.where(inside, 3 * rows.astype(np.int64) + columns.astype(np.int64), -1)
    image = np.repeat((50 + 20 * objects).clip(0)[..., None].astype(np.uint8), 3, axis=2)
    return image, objects


def check_canvas(canvas: Canvas, canvas_image: NDArray[np.uint8], objects: NDArray[np.int64]) -> None:
    """Prompts in an object fall on it on the canvas, too, and there are some in each."""
    points = point_grid(canvas.original_size_hw, 16)
    height, width = canvas.original_size_hw
    assert bool(((points > 0) & (points < torch.tensor([width, height]))).all())
    under = objects[points[:, 1].long(), points[:, 0].long()]
    assert set(range(9)) <= set(under.tolist())
    coords = canvas.canvas_coords(points)
    seen = canvas_image[coords[:, 1], coords[:, 0], 0].astype(int)
    for number in range(9):
        values = seen[under == number]
        # At an object's edge its grey is mixed with the black around it.
        assert abs(int(values.max()) - (50 + 20 * number)) <= 3, (number, values)


@given(size_hw=SHAPES, frame=st.sampled_from(sorted(FRAMES)))
@settings(max_examples=25)
def test_prompts_land_where_the_model_sees_their_place(size_hw: tuple[int, int], frame: str) -> None:
    image, objects = nine_objects(size_hw)
    place = FRAMES[frame](size_hw)
    prepared = place.on_host(image)
    pixels, canvas_image = place.to_network(prepared, prepared.pixels)
    check_canvas(place.canvas(), canvas_image, objects)
    points = point_grid(size_hw, 16)
    coords = place.to_input(points)
    assert bool(((coords >= 0) & (coords < pixels.shape[-1])).all())
    under = objects[points[:, 1].long(), points[:, 0].long()]
    seen = pixels[0, coords[:, 1].long(), coords[:, 0].long()]
    levels = [float(seen[torch.from_numpy(under == number)].max()) for number in range(9)]
    # Grey levels rise from object to object, by the same step.
    steps = np.diff(levels)
    assert steps.min() > 0
    assert steps.max() - steps.min() < 0.05


@given(size_hw=SHAPES, frame=st.sampled_from(sorted(FRAMES)), per_side=st.integers(2, 12))
@settings(max_examples=25)
def test_the_grid_covers_the_image_evenly(size_hw: tuple[int, int], frame: str, per_side: int) -> None:
    """Each of equally many equal boxes of what the model sees of the image holds one point."""
    place = FRAMES[frame](size_hw)
    height, width = size_hw
    corner = place.to_input(torch.tensor([[float(width), float(height)]]))
    boxes = (place.to_input(point_grid(size_hw, per_side)) / corner * per_side).floor().long()
    assert len(set(map(tuple, boxes.tolist()))) == per_side**2
    assert int(boxes.min()) == 0
    assert int(boxes.max()) == per_side - 1


@pytest.mark.parametrize("size_hw", [(80, 240), (240, 80), (150, 151)])
def test_the_built_in_model_sees_prompts_where_they_are(size_hw: tuple[int, int]) -> None:
    image, objects = nine_objects(size_hw)
    (embedding,) = load_backbone("nano", device="cpu").embed([image])
    check_canvas(embedding.canvas, embedding.canvas_image, objects)
