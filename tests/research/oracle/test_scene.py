from __future__ import annotations

import numpy as np
import pytest

from everymask.evaluation.ground_truth import EntityTruth
from everymask.masks.rle import encode_mask
from everymask.research.oracle.draws import normal, uniform
from everymask.research.oracle.scene import NOTHING, Scene, annotated_scene, drawn_scene, nested_scene, picture_digest

GREY = np.full((40, 60, 3), 128, dtype=np.uint8)


def halves(axis: int) -> np.ndarray:
    labels = np.zeros(GREY.shape[:2], dtype=np.int64)
    labels[(slice(None), slice(30, None)) if axis else (slice(20, None), slice(None))] = 1
    return labels


def assert_nested(scene: Scene, objects: np.ndarray) -> None:
    assert np.array_equal(scene.objects, objects)
    inside = scene.subparts != NOTHING
    assert np.array_equal(np.unique(scene.subparts[inside]), np.arange(len(scene.part)))
    for part in np.unique(scene.part):
        assert len(np.unique(scene.object[scene.part == part])) == 1


def test_each_level_is_cut_along_the_next() -> None:
    objects = halves(axis=1)
    scene = nested_scene(GREY, objects, halves(axis=0), np.arange(60)[None].repeat(40, 0) // 15)
    assert_nested(scene, objects)
    assert len(np.unique(scene.part)) == 4
    assert len(scene.part) == 8


def test_small_pieces_join_the_largest_of_their_own_object() -> None:
    objects = halves(axis=1)
    sliver = np.zeros_like(objects)
    sliver[:, 29:32] = 1
    scene = nested_scene(GREY, objects, sliver, sliver, least_piece=0.04)
    assert_nested(scene, objects)
    # One column of the left half, two of the right: 1.7 % and 3.3 % of the picture.
    assert len(scene.part) == 2


def test_what_is_not_annotated_is_nothing() -> None:
    mask = np.zeros(GREY.shape[:2], dtype=np.bool_)
    mask[5:20, 10:30] = True
    scene = annotated_scene(GREY, EntityTruth((40, 60), (encode_mask(mask),), (False,)))
    assert np.array_equal(scene.subparts != NOTHING, mask)
    assert np.array_equal(scene.objects >= 0, mask)


@pytest.mark.parametrize("regions", [1, 200, 1000])
def test_drawn_scenes_have_the_regions_asked_for(regions: int) -> None:
    scene = drawn_scene(regions, (240, 320))
    assert scene.image.shape == (240, 320, 3)
    assert_nested(scene, scene.objects)
    assert 0.9 * regions <= len(np.unique(scene.object)) <= regions
    assert np.array_equal(scene.image, drawn_scene(regions, (240, 320)).image)


def test_a_digest_tells_pictures_of_the_same_bytes_apart_by_their_size() -> None:
    assert picture_digest(GREY) == picture_digest(GREY.copy())
    assert picture_digest(GREY) != picture_digest(GREY.reshape(60, 40, 3))


def test_draws_depend_on_their_keys_alone() -> None:
    keys = np.arange(10_000)
    drawn = uniform(3, 1, keys)
    assert np.array_equal(drawn[17:18], uniform(3, 1, keys[17:18]))
    assert abs(drawn.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(drawn, uniform(3, 2, keys))[0, 1]) < 0.05
    assert abs(normal(3, 1, keys).std() - 1) < 0.05
