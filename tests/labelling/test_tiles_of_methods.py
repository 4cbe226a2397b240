"""Tiles by every method that lets masks overlap: automatic masks, and classes.

Pictures are flat colours, and the backbone answers a click with the connected colour under it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.entities.config import AmgConfig
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.labelling.tiles import make_tiles
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels
from tests.classes.toy import ColourBackbone, colour_head, picture

SIZE_HW = (240, 320)
COUNT = 3
SIDE = make_tiles(SIZE_HW, COUNT)[0][2]
POINTS = 12
SMALL = [("cherry", (40, 52, 52, 68)), ("lime", (120, 152, 132, 168)), ("cherry", (250, 152, 262, 168))]
"""Between the rows of a grid of `POINTS` over the whole, not over a tile."""
LARGE = ("cherry", (20, 90, 300, 110))
AMG = LabelConfig("amg", amg=AmgConfig(points_per_side=POINTS, pred_iou_thresh=0.6, stability_score_thresh=0.5))
CLASSES = LabelConfig("classes", classes=ClassesConfig(masks=MaskConfig(points_per_side=POINTS)))


def label(image: NDArray[np.uint8], config: LabelConfig, tiles: int) -> ImageLabels:
    head = colour_head() if config.method == "classes" else None
    (labels,) = label_images(ColourBackbone(), [image], replace(config, tiles=tiles), head)
    assert isinstance(labels, ImageLabels)
    return labels


def objects(labels: ImageLabels) -> list[tuple[int, int, int, int]]:
    """Boxes of all masks but the backdrop."""
    return sorted(mask.box_xyxy for mask in labels.masks if mask.area < 0.5 * labels.size_hw[0] * labels.size_hw[1])


def across_seams(half: int) -> list[tuple[str, tuple[int, int, int, int]]]:
    """An object over an edge of some tile, in both directions, on even pixels."""
    tiles = make_tiles(SIZE_HW, COUNT)
    xs = sorted({2 * (x // 2) for tile in tiles for x in tile[::2] if half < x < SIZE_HW[1] - half})
    ys = sorted({2 * (y // 2) for tile in tiles for y in tile[1::2] if half < y < SIZE_HW[0] - half})
    return [("cherry", (x - half, y - half, x + half, y + half)) for x in xs for y in ys]


@pytest.mark.parametrize("config", [AMG, CLASSES], ids=["amg", "classes"])
def test_objects_across_seams_are_whole_and_single(config: LabelConfig) -> None:
    drawn = across_seams(6)
    assert len(drawn) >= 4
    assert objects(label(picture(drawn, SIZE_HW), config, COUNT)) == sorted(box for _, box in drawn)


@pytest.mark.parametrize("config", [AMG, CLASSES], ids=["amg", "classes"])
def test_small_objects_are_found_and_large_ones_kept(config: LabelConfig) -> None:
    assert LARGE[1][2] - LARGE[1][0] > SIDE
    image = picture([LARGE, *SMALL], SIZE_HW)
    assert objects(label(image, config, 1)) == [LARGE[1]]
    assert objects(label(image, config, COUNT)) == sorted(box for _, box in [LARGE, *SMALL])


def test_tiles_name_masks_and_count_covered_pixels_once() -> None:
    drawn = [SMALL[1], *across_seams(6)]
    image = picture(drawn, SIZE_HW)
    labels = label(image, CLASSES, COUNT)
    assert sorted((mask.class_name or "", mask.box_xyxy) for mask in labels.masks) == sorted(drawn)
    decoded = [decode_mask(mask.rle) for mask in labels.masks]
    assert [mask.area for mask in labels.masks] == [pixels.sum() for pixels in decoded]
    assert labels.coverage == pytest.approx(np.any(decoded, axis=0).mean())
    assert [mask.score for mask in labels.masks] == sorted((mask.score for mask in labels.masks), reverse=True)
