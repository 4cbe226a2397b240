"""Specks, pin-holes and masks of the wrong size, for overlapping and for disjoint masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.errors import ConfigurationError
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_embedding
from everymask.labelling.region_sizes import limit_region_sizes
from everymask.masks.labelled import labelled_masks
from everymask.masks.regions import small_holes, small_islands
from everymask.masks.rle import decode_mask, encode_masks
from everymask.records import ImageLabels
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

SIZE = (12, 20)


def labels_of(*masks: NDArray[np.bool_]) -> ImageLabels:
    count = len(masks)
    records = labelled_masks(
        encode_masks(np.stack(masks)),
        predicted_iou=[0.9] * count,
        stability_score=[1.0] * count,
        point_coords=[(1.0, 1.0)] * count,
        score=[0.9 - 0.1 * index for index in range(count)],
    )
    covered = np.logical_or.reduce(masks).mean()
    return ImageLabels(masks[0].shape, tuple(records), float(covered))


def pixels(labels: ImageLabels) -> list[NDArray[np.bool_]]:
    return [decode_mask(mask.rle) for mask in labels.masks]


LEFT, RIGHT = rectangle(SIZE, 0, 0, 10, 12), rectangle(SIZE, 10, 0, 20, 12)
SPECK, HOLE = rectangle(SIZE, 14, 5, 16, 6), rectangle(SIZE, 3, 3, 5, 5)


def test_a_speck_inside_another_mask_goes_to_it_and_a_pin_hole_is_filled() -> None:
    labels = limit_region_sizes(labels_of((LEFT & ~HOLE) | SPECK, RIGHT & ~SPECK), 5)
    np.testing.assert_array_equal(pixels(labels), [LEFT, RIGHT])
    assert labels.masks[0].area == 120
    assert labels.masks[0].box_xyxy == (0, 0, 10, 12)
    assert labels.coverage == 1.0


def test_a_small_object_in_a_hole_keeps_its_place() -> None:
    labels = labels_of(LEFT & ~HOLE, HOLE)
    assert limit_region_sizes(labels, 4) == labels


def test_masks_that_are_too_small_or_too_large_are_left_out() -> None:
    labels = labels_of(LEFT, HOLE | SPECK, RIGHT & ~SPECK)
    np.testing.assert_array_equal(pixels(limit_region_sizes(labels, 5)), [LEFT, RIGHT])
    np.testing.assert_array_equal(pixels(limit_region_sizes(labels, max_area=118)), [HOLE | SPECK, RIGHT & ~SPECK])
    assert limit_region_sizes(labels, max_area=5).masks == ()


@given(st.integers(0, 2**32), st.integers(0, 12))
def test_disjoint_masks_stay_disjoint_and_clean_ones_stay_the_same(seed: int, min_area: int) -> None:
    rng = np.random.default_rng(seed)
    owner = np.kron(rng.integers(-1, 4, (6, 10)), np.ones((2, 2), dtype=np.int64))
    owner[rng.random(SIZE) < 0.05] = 0
    masks = [owner == index for index in range(4)]
    labels = labels_of(*masks)
    cleaned = limit_region_sizes(labels, min_area)
    found = pixels(cleaned)
    total = np.sum(found, axis=0) if found else np.zeros(SIZE)
    assert total.max() <= 1
    assert cleaned.coverage == pytest.approx((total > 0).mean())
    for mask in found:
        assert not small_islands(mask, min_area).any()
        assert not (small_holes(mask, min_area) & (total == 0)).any()
    assert min_area > 1 or cleaned == labels


@pytest.mark.parametrize("method", ["entities", "amg"])
def test_every_method_obeys_the_sizes(method: str) -> None:
    backbone = ScriptedBackbone([Reply.one(LEFT | SPECK), Reply.one(RIGHT & ~SPECK)], painted(SIZE, RIGHT))
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    clean = label_embedding(backbone, embedding, LabelConfig(method, min_region_area=5))  # type: ignore[arg-type]
    assert {mask.area for mask in clean.masks} == {120}
    none = label_embedding(backbone, embedding, LabelConfig(method, max_region_area=50))  # type: ignore[arg-type]
    assert none.masks == ()


@pytest.mark.parametrize("sizes", [(-1, None), (0, 0), (50, 49)])
def test_sizes_that_leave_nothing_are_refused(sizes: tuple[int, int | None]) -> None:
    with pytest.raises(ConfigurationError, match="region_area"):
        LabelConfig(min_region_area=sizes[0], max_region_area=sizes[1])
