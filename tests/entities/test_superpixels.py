from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from everymask.backbone.protocol import Canvas, ImageEmbedding
from everymask.entities.config import SuperpixelConfig
from everymask.entities.superpixels import find_superpixels


def embedding_of(
    image: NDArray[np.uint8], original_size_hw: tuple[int, int] | None = None, cell_index: torch.Tensor | None = None
) -> ImageEmbedding:
    height, width = image.shape[:2]
    cells = torch.arange(height * width).reshape(height, width) if cell_index is None else cell_index
    area = torch.bincount(cells.flatten()).to(torch.float32)
    return ImageEmbedding(Canvas(cells, area, original_size_hw or (height, width)), image, {}, "")


def two_tone(size_hw: tuple[int, int] = (20, 40), split: int = 30) -> NDArray[np.uint8]:
    image = np.full((*size_hw, 3), 40, dtype=np.uint8)
    image[:, split:] = 220
    return image


def test_superpixels_part_the_canvas_and_sit_in_their_own_centre() -> None:
    found = find_superpixels(embedding_of(two_tone(), original_size_hw=(40, 80)), SuperpixelConfig(sigma=0.0))
    assert len(found) == 2
    assert (found.masks.sum(dim=0) == 1).all()
    left, right = found.masks.reshape(2, 20, 40)
    assert left[:, :30].all()
    assert right[:, 30:].all()
    # Means at canvas columns 14.5 and 34.5, twice that in original pixels, snapped to a pixel's centre.
    np.testing.assert_allclose(found.centroids.numpy(), [[30, 20], [70, 20]], atol=2)


def test_small_superpixels_are_dense() -> None:
    found = find_superpixels(embedding_of(two_tone()), SuperpixelConfig(sigma=0.0))
    density = found.density.reshape(20, 40)
    # Areas 600 and 200, median 400.
    assert density[0, 0].item() == pytest.approx(400 / 1000)
    assert density[0, 39].item() == pytest.approx(400 / 600)


def test_the_centroid_of_a_bent_superpixel_lies_in_it() -> None:
    image = np.full((30, 30, 3), 30, dtype=np.uint8)
    image[3:27, 3:27] = 200
    image[6:27, 6:27] = 30
    embedding = embedding_of(image)
    found = find_superpixels(embedding, SuperpixelConfig(sigma=0.0, min_area=0.0))
    cells = embedding.canvas.cells_at(found.centroids)
    assert len(found) > 1
    assert found.masks[torch.arange(len(found)), cells].all()


def test_a_coarse_cell_goes_to_the_superpixel_that_holds_most_of_it() -> None:
    cells = torch.arange(4).repeat_interleave(10).expand(20, 40)
    found = find_superpixels(embedding_of(two_tone(split=24), cell_index=cells), SuperpixelConfig(sigma=0.0))
    assert found.masks.tolist() == [[True, True, False, False], [False, False, True, True]]


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 50), (7, 3)])
def test_a_single_colour_is_one_superpixel(size_hw: tuple[int, int]) -> None:
    found = find_superpixels(embedding_of(np.zeros((*size_hw, 3), dtype=np.uint8)), SuperpixelConfig())
    assert found.masks.tolist() == [[True] * (size_hw[0] * size_hw[1])]
    assert found.density.tolist() == [pytest.approx(0.5)] * (size_hw[0] * size_hw[1])


def test_a_large_canvas_has_the_superpixels_of_its_small_version() -> None:
    image = two_tone((60, 80), split=40)
    small = find_superpixels(embedding_of(image), SuperpixelConfig(sigma=0.0))
    large = find_superpixels(
        embedding_of(image.repeat(8, axis=0).repeat(8, axis=1), original_size_hw=(60, 80)), SuperpixelConfig(sigma=0.0)
    )
    assert len(large) == len(small) == 2
    np.testing.assert_allclose(large.centroids.numpy(), small.centroids.numpy(), atol=2)
    np.testing.assert_array_equal(large.masks.reshape(2, 480, 640)[:, ::8, ::8], small.masks.reshape(2, 60, 80))


@pytest.mark.parametrize(("min_area", "count"), [(0.0, 2), (0.02, 2), (0.03, 1)])
def test_a_superpixel_below_the_least_share_of_the_image_is_joined_with_its_surroundings(
    min_area: float, count: int
) -> None:
    image = np.full((20, 40, 3), 40, dtype=np.uint8)
    image[8:12, 10:15] = 220  # 20 of 800 pixels
    assert len(find_superpixels(embedding_of(image), SuperpixelConfig(sigma=0.0, min_area=min_area))) == count
