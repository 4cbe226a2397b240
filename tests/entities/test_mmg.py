from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from everymask.entities.config import EntityConfig
from everymask.entities.mmg import generate_levels, thin_objects, thin_parts
from everymask.entities.superpixels import find_superpixels
from everymask.masks.packed import PackedMasks
from tests.entities.scenes import mask_set, pixels
from tests.entities.scripted import Reply, ScriptedBackbone, painted, rectangle

SIZE = (20, 40)
AREA = torch.ones(SIZE[0] * SIZE[1])
WHOLE, LEFT, SPOT = rectangle(SIZE, 0, 0, 40, 20), rectangle(SIZE, 0, 0, 20, 20), rectangle(SIZE, 2, 2, 8, 8)


def levels_of(backbone: ScriptedBackbone, **settings: Any) -> Any:
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    config = EntityConfig(**settings)
    return generate_levels(backbone, embedding, find_superpixels(embedding, config.superpixels), config)


def test_masks_of_a_point_are_sorted_into_levels_by_area() -> None:
    levels = levels_of(
        ScriptedBackbone([Reply((SPOT, WHOLE, LEFT), (0.9, 0.91, 0.92))], painted(SIZE)), best_match_thresh=0
    )
    np.testing.assert_array_equal(pixels(levels.objects.masks, SIZE), [WHOLE])
    np.testing.assert_array_equal(levels.parts.unpack().reshape(-1, *SIZE), [LEFT, SPOT])


def test_an_object_that_resembles_no_best_mask_is_dropped() -> None:
    answer = Reply((WHOLE, LEFT, SPOT), (0.9, 0.95, 0.9))
    # The best mask is the left half: IoU 0.5 with the whole.
    assert len(levels_of(ScriptedBackbone([answer], painted(SIZE)), best_match_thresh=0.6).objects) == 0
    assert len(levels_of(ScriptedBackbone([answer], painted(SIZE)), best_match_thresh=0.5).objects) == 1


def test_another_points_best_mask_may_vouch_for_an_object() -> None:
    answers = [
        Reply((WHOLE, LEFT, SPOT), (0.9, 0.95, 0.9)),
        Reply((WHOLE, LEFT, SPOT), (0.95, 0.9, 0.9)),
    ]
    levels = levels_of(ScriptedBackbone(answers, painted(SIZE, SPOT)))
    np.testing.assert_array_equal(pixels(levels.objects.masks, SIZE), [WHOLE])
    assert levels.objects.predicted_iou.tolist() == pytest.approx([0.95])


def test_an_object_that_few_of_the_clicks_inside_it_give_is_dropped() -> None:
    right, corner = rectangle(SIZE, 20, 0, 40, 20), rectangle(SIZE, 0, 0, 8, 8)
    answers = [Reply.one(LEFT), Reply.one(right), Reply.one(WHOLE, 0.99)]
    levels = levels_of(ScriptedBackbone(answers, painted(SIZE, right, corner)))
    np.testing.assert_array_equal(pixels(levels.objects.masks, SIZE), [LEFT, right])
    most = painted(SIZE, right, rectangle(SIZE, 0, 0, 38, 20))
    levels = levels_of(ScriptedBackbone(answers, most), object_nms_thresh=1.0)
    np.testing.assert_array_equal(pixels(levels.objects.masks, SIZE), [WHOLE])


def test_unsure_unstable_and_empty_masks_are_not_proposed() -> None:
    nothing = np.zeros(SIZE, dtype=np.bool_)
    levels = levels_of(
        ScriptedBackbone([Reply((LEFT, SPOT, nothing), (0.95, 0.5, 0.99))], painted(SIZE)), best_match_thresh=0
    )
    np.testing.assert_array_equal(pixels(levels.objects.masks, SIZE), [LEFT])
    assert len(levels.parts) == 0


def test_of_nearly_equal_objects_the_most_confident_stays() -> None:
    masks = mask_set([LEFT, rectangle(SIZE, 0, 0, 22, 20), WHOLE], [0.9, 0.95, 0.92])
    kept = thin_objects(masks, PackedMasks.pack(masks.masks, AREA), AREA, EntityConfig())
    assert kept.predicted_iou.tolist() == pytest.approx([0.95, 0.92])


def thinned(masks: Any, scores: Sequence[float], density: Sequence[float], area: Any = AREA, **settings: Any) -> int:
    packed = PackedMasks.pack(torch.from_numpy(np.stack(masks)).flatten(1), area)
    config = EntityConfig(**settings)
    return len(thin_parts(packed, np.array(scores, dtype=np.float32), np.array(density), config))


def test_dense_regions_tolerate_more_overlap() -> None:
    masks = [LEFT, rectangle(SIZE, 0, 0, 16, 20)]  # IoU 0.8
    assert thinned(masks, [0.9, 0.8], np.full(len(AREA), 0.5), part_nms_thresh=0.7) == 1
    assert thinned(masks, [0.9, 0.8], np.full(len(AREA), 0.9), part_nms_thresh=0.7) == 2


def test_parts_of_a_plain_region_tolerate_as_much_overlap_as_sams_own_masks() -> None:
    for columns, kept in ((13, 2), (15, 1)):  # IoU 0.65 and 0.75
        assert thinned([LEFT, rectangle(SIZE, 0, 0, columns, 20)], [0.9, 0.8], np.full(len(AREA), 0.1)) == kept


def test_density_is_averaged_over_the_mask_by_area() -> None:
    area = torch.tensor([3.0, 1.0, 4.0])
    masks = [np.array([[True, True, False]]), np.array([[True, False, False]])]  # IoU is 3/4
    assert thinned(masks, [0.9, 0.8], [0.9, 0.4, 0.0], area, part_nms_thresh=0.0) == 2  # mean 0.775
    assert thinned(masks, [0.9, 0.8], [0.8, 0.4, 1.0], area, part_nms_thresh=0.0) == 1  # mean 0.7
