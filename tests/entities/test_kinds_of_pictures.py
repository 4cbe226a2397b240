"""Pictures of unusual shape or make, with SAM's geometry: every drawn thing that a click can hit is one entity."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from everymask.entities.config import EntityConfig
from everymask.entities.segmenter import segment_entities
from everymask.evaluation.disjoint import overlapping_pixels
from everymask.masks.painting import label_map_by_score
from everymask.records import ImageLabels
from everymask.research.oracle import EXACT, OracleBackbone, Scene, drawn_scene
from everymask.research.oracle.scene import nested_scene

CONFIG = EntityConfig(points_per_side=16, gallery_points_per_side=24)


def labelled(scene: Scene) -> ImageLabels:
    backbone = OracleBackbone([scene], EXACT)
    return segment_entities(backbone, backbone.embed([scene.image])[0], CONFIG)


def best_ious(labels: ImageLabels, objects: NDArray[np.int64], least_area: int) -> list[float]:
    """For every object of at least that many pixels, the IoU of the entity that fits it best."""
    found = label_map_by_score(labels)
    ious = []
    for number in np.unique(objects[objects >= 0]):
        inside = objects == number
        if inside.sum() < least_area:
            continue
        candidates = np.unique(found[inside & (found >= 0)])
        ious.append(
            max(((inside & (found == c)).sum() / (inside | (found == c)).sum() for c in candidates), default=0.0)
        )
    return ious


@pytest.mark.parametrize("size_hw", [(256, 512), (512, 256), (120, 960), (48, 960)])
def test_wide_and_tall_panoramas_are_cut_into_their_objects(size_hw: tuple[int, int]) -> None:
    scene = drawn_scene(14, size_hw, seed=3)
    labels = labelled(scene)
    assert overlapping_pixels(labels.masks) == 0
    assert labels.coverage > 0.9
    # A click of the grid hits whatever is larger than two boxes of it.
    hit = best_ious(labels, scene.objects, 2 * size_hw[0] * size_hw[1] // CONFIG.points_per_side**2)
    assert len(hit) > 5
    assert np.mean(hit) > 0.9
    assert min(hit) > 0.75


def test_a_sketch_is_cut_into_its_closed_shapes() -> None:
    """Black strokes on white paper: superpixels see lines, the objects are what the lines enclose."""
    objects = np.zeros((320, 400), dtype=np.int64)
    paper = Image.new("RGB", (400, 320), "white")
    pen = ImageDraw.Draw(paper)
    shapes = [
        ("ellipse", (40, 40, 160, 160)),
        ("rectangle", (200, 60, 360, 150)),
        ("polygon", (120, 290, 200, 180, 290, 290)),
    ]
    for number, (shape, corners) in enumerate(shapes, start=1):
        getattr(pen, shape)(corners, outline="black", width=3)
        filled = Image.new("L", (400, 320))
        getattr(ImageDraw.Draw(filled), shape)(corners, fill=1)
        objects[np.asarray(filled) > 0] = number
    scene = nested_scene(np.asarray(paper), objects, objects, objects)
    labels = labelled(scene)
    assert overlapping_pixels(labels.masks) == 0
    assert min(best_ious(labels, objects, 1)) > 0.9
    # The strokes are no entities of their own.
    assert len(labels.masks) == 4
