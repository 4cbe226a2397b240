"""What lies on SAM's canvas is where SAM itself puts it in the image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.backbone.protocol import ImageEmbedding
from everymask.backbone.sam.frame import Frame
from everymask.entities.config import SuperpixelConfig
from everymask.entities.superpixels import find_superpixels
from everymask.entities.usr import mask_centroids
from everymask.masks.label_map import full_resolution_label_map

SIDE, PATCH = 1024, 16


def disc_logits(frame: Frame, centre: tuple[float, float], radius: float, slope: float) -> torch.Tensor:
    """(H', W') logits of a disc given in original pixels, falling by `slope` a canvas pixel, at most ±20."""
    height, width = frame.original_size_hw
    rows, columns = (torch.arange(side) for side in frame.canvas_size_hw)
    input_height, input_width = frame.input_size_hw
    y = (rows + 0.5) * 4 * height / input_height - centre[1]
    x = (columns + 0.5) * 4 * width / input_width - centre[0]
    distance = radius - torch.hypot(y[:, None], x[None])
    return (distance * SIDE / 4 / max(height, width) * slope).clamp(-20, 20)


def iou_with_sam(frame: Frame, logits: torch.Tensor) -> float | None:
    """IoU of the label map of one region with SAM's own up-scaling; None where that is under 400 pixels."""
    truth = (frame.to_original(logits[None])[0] > 0).numpy()
    if truth.sum() < 400:
        return None
    cells = logits.flatten()[None]
    ours = full_resolution_label_map(cells > 0, cells, frame.canvas()) == 0
    return float((ours & truth).sum() / (ours | truth).sum())


SIZES = st.one_of(
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.sampled_from([(1, 1), (480, 640), (640, 427), (333, 500), (1333, 2000), (2667, 4000), (4000, 2667)]),
)


@settings(max_examples=40)
@given(SIZES, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from([1.0, 4.0, 10.0]))
def test_a_label_map_of_one_region_is_sams_own_mask(
    size_hw: tuple[int, int], x: float, y: float, radius: float, slope: float
) -> None:
    frame = Frame(size_hw, SIDE, PATCH)
    radius_px = 12 + radius**3 * max(size_hw) / 2
    iou = iou_with_sam(frame, disc_logits(frame, (x * size_hw[1], y * size_hw[0]), radius_px, slope))
    assert iou is None or iou >= 0.99


@pytest.mark.parametrize("size_hw", [(480, 640), (2667, 4000), (4000, 2667)])
def test_small_objects_in_the_far_corner_are_not_shifted(size_hw: tuple[int, int]) -> None:
    frame = Frame(size_hw, SIDE, PATCH)
    radius = max(12.0, 1.5 * max(size_hw) / 256)
    centre = (size_hw[1] - 1.5 * radius, size_hw[0] - 1.5 * radius)
    iou = iou_with_sam(frame, disc_logits(frame, centre, radius, 5.0))
    assert iou is not None
    assert iou >= 0.99


@pytest.mark.parametrize("size_hw", [(33, 50), (3, 700), (480, 640), (2667, 4000), (4000, 2667)])
def test_centroids_return_to_where_they_came_from(size_hw: tuple[int, int]) -> None:
    frame = Frame(size_hw, SIDE, PATCH)
    canvas = frame.canvas()
    # Tones in four quarters, the last rows and columns repeated past the image.
    numbers, means = [], []
    for side, extent, original in zip(canvas.size_hw, canvas.image_extent_hw, size_hw, strict=True):
        inside = np.minimum(np.arange(side), math.ceil(extent) - 1)
        second = inside >= extent / 2
        pixels = np.minimum(((np.arange(original) + 0.5) * extent / original).astype(int), side - 1)
        numbers.append(second)
        means.append({half: (np.nonzero(second[pixels] == half)[0] + 0.5).mean() for half in np.unique(second)})
    quarter = 2 * numbers[0][:, None] + numbers[1][None]
    expected = torch.tensor([[x, y] for y in means[0].values() for x in means[1].values()])
    image = np.repeat((quarter * 80)[..., None], 3, axis=2).astype(np.uint8)
    embedding = ImageEmbedding(canvas, image, {}, "")
    masks = torch.from_numpy(quarter.ravel()) == torch.from_numpy(np.unique(quarter))[:, None]
    found = find_superpixels(embedding, SuperpixelConfig(sigma=0.0, min_area=0.0))
    order = torch.from_numpy(quarter.ravel())[canvas.cells_at(found.centroids)].argsort()
    half_a_canvas_pixel = max(0.5, 0.5 * max(size_hw) / (SIDE / 4))
    for points in (found.centroids[order], mask_centroids(canvas, masks)):
        assert points.shape == expected.shape
        assert (points - expected).abs().max() <= half_a_canvas_pixel + 1e-3
