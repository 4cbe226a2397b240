"""Tiles leave no seam, find what the whole picture is too coarse for, and keep what is larger than a tile.

In place of a model, the pieces of equal colour of a picture are its entities; like a model, it loses what is small in a
large picture.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import label as connected_components

from data_jobs.label_dataset import command
from everymask.backbone.sam.backbone import SamBackbone
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.errors import ConfigurationError
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labelling.tiles import OVERLAP, label_in_tiles, make_tiles
from everymask.masks.labelled import labelled_masks
from everymask.masks.rle import decode_mask, encode_masks
from everymask.records import ImageLabels

MIN_SHARE = 1 / 400


def label_colours(image: NDArray[np.uint8]) -> ImageLabels:
    """Connected pieces of one colour other than black, without those under a share of the picture."""
    height, width = image.shape[:2]
    pieces = connected_components(image[..., 0].astype(np.int64), background=0, connectivity=1)
    masks = [pieces == number for number in range(1, int(pieces.max()) + 1)]
    masks = [mask for mask in masks if mask.sum() >= MIN_SHARE * height * width]
    points = [tuple(np.argwhere(mask)[0][::-1].tolist()) for mask in masks]
    ones = [0.9] * len(masks)
    stacked = np.array(masks, dtype=np.bool_).reshape(-1, height, width)
    records = labelled_masks(
        encode_masks(stacked), predicted_iou=ones, stability_score=ones, point_coords=points, score=ones
    )
    return ImageLabels((height, width), tuple(records), float(stacked.any(0).mean()) if masks else 0.0)


def painted(size_hw: tuple[int, int], rectangles: list[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    for number, (x0, y0, x1, y1) in enumerate(rectangles, start=1):
        image[y0:y1, x0:x1] = 20 * number
    return image


def boxes(labels: ImageLabels) -> set[tuple[int, int, int, int]]:
    return {mask.box_xyxy for mask in labels.masks}


@pytest.mark.parametrize("size_hw", [(300, 400), (400, 120), (90, 91), (100, 1000)])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_tiles_cover_the_picture_and_overlap(size_hw: tuple[int, int], count: int) -> None:
    covered = np.zeros(size_hw, dtype=np.int64)
    tiles = make_tiles(size_hw, count)
    for x0, y0, x1, y1 in tiles:
        covered[y0:y1, x0:x1] += 1
    assert covered.min() >= 1
    along = sorted({(x0, x1) if size_hw[1] >= size_hw[0] else (y0, y1) for x0, y0, x1, y1 in tiles})
    assert len(along) == count
    for (_, end), (start, stop) in itertools.pairwise(along):
        assert end - start >= OVERLAP * (stop - start) - 2


def test_objects_across_seams_are_whole() -> None:
    size_hw = (240, 320)
    lines_x = sorted({tile[0] for tile in make_tiles(size_hw, 3)} | {tile[2] for tile in make_tiles(size_hw, 3)})
    lines_y = sorted({tile[1] for tile in make_tiles(size_hw, 3)} | {tile[3] for tile in make_tiles(size_hw, 3)})
    rectangles = [
        (x - 6, y - 6, x + 6, y + 6) for x in lines_x[1:-1] for y in lines_y[1:-1] if 6 <= x < 314 and 6 <= y < 234
    ]
    assert len(rectangles) >= 2
    labels = label_in_tiles(painted(size_hw, rectangles[:12]), 3, label_colours)
    assert boxes(labels) == set(rectangles[:12])


def test_small_objects_are_found_and_large_ones_kept() -> None:
    large, small = (10, 100, 310, 180), [(30, 20, 36, 26), (200, 30, 207, 35), (150, 210, 156, 217)]
    image = painted((240, 320), [large, *small])
    assert boxes(label_colours(image)) == {large}
    labels = label_in_tiles(image, 4, label_colours)
    assert boxes(labels) == {large, *small}
    assert labels.coverage == pytest.approx((image[..., 0] > 0).mean())


def test_masks_are_disjoint_and_their_records_true() -> None:
    image = painted((200, 200), [(5, 5, 195, 195), (40, 40, 60, 60), (90, 90, 120, 130)])
    labels = label_in_tiles(image, 2, label_colours)
    decoded = [decode_mask(mask.rle) for mask in labels.masks]
    assert np.sum(decoded, axis=0).max() == 1
    for mask, pixels in zip(labels.masks, decoded, strict=True):
        rows, columns = np.nonzero(pixels)
        assert mask.area == pixels.sum()
        assert mask.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_one_tile_is_the_picture() -> None:
    image = painted((60, 80), [(10, 10, 40, 40)])
    assert label_in_tiles(image, 1, label_colours) == label_colours(image)


def test_a_model_labels_in_tiles(tiny_sam: SamBackbone) -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    options = EntityConfig(points_per_side=4, gallery_points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0)
    (labels,) = label_images(tiny_sam, [image], LabelConfig(entities=options, tiles=2))
    assert isinstance(labels, ImageLabels)
    assert labels.size_hw == (90, 120)
    assert labels.masks
    assert np.sum([decode_mask(mask.rle) for mask in labels.masks], axis=0).max() == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tiles": 0}, "at least 1"),
        ({"tiles": 2, "method": "amg", "amg": AmgConfig(crop_n_layers=1)}, "crop_n_layers"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        LabelConfig(**options)  # type: ignore[arg-type]


def test_a_job_keeps_no_embeddings_of_tiles() -> None:
    with pytest.raises(ConfigurationError, match="of whole pictures"):
        command.parse(
            [
                *("--input", "in", "--output", "out", "--tiles", "2"),
                "--method=classes",
                "--head=h",
                "--save-embeddings=e",
            ]
        )
