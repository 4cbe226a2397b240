import numpy as np
import pytest
import torch

from everymask.entities.config import EntityConfig
from everymask.entities.mmg import generate_levels, thin_objects, thin_parts
from everymask.entities.superpixels import find_superpixels
from everymask.masks.mask_set import Level
from tests.entities.scenes import mask_set, pixels
from tests.entities.scripted import Answer, ScriptedBackbone, painted, rectangle

SIZE = (20, 40)
AREA = torch.ones(SIZE[0] * SIZE[1])
WHOLE, LEFT, SPOT = rectangle(SIZE, 0, 0, 40, 20), rectangle(SIZE, 0, 0, 20, 20), rectangle(SIZE, 2, 2, 8, 8)


def levels_of(backbone, **settings):
    embedding = backbone.embed([np.zeros((*SIZE, 3), dtype=np.uint8)])[0]
    config = EntityConfig(**settings)
    return generate_levels(backbone, embedding, find_superpixels(embedding, config.superpixels), config)


def test_masks_of_a_point_are_sorted_into_levels_by_area():
    levels = levels_of(
        ScriptedBackbone([Answer((SPOT, WHOLE, LEFT), (0.9, 0.91, 0.92))], painted(SIZE)), best_match_thresh=0
    )
    np.testing.assert_array_equal(pixels(levels.objects.masks, SIZE), [WHOLE])
    np.testing.assert_array_equal(pixels(levels.parts.masks, SIZE), [LEFT, SPOT])
    assert levels.parts.level.tolist() == [Level.PART, Level.SUBPART]


def test_an_object_that_resembles_no_best_mask_is_dropped():
    answer = Answer((WHOLE, LEFT, SPOT), (0.9, 0.95, 0.9))
    # The best mask is the left half: IoU 0.5 with the whole.
    assert len(levels_of(ScriptedBackbone([answer], painted(SIZE)), best_match_thresh=0.6).objects) == 0
    assert len(levels_of(ScriptedBackbone([answer], painted(SIZE)), best_match_thresh=0.5).objects) == 1


def test_another_points_best_mask_may_vouch_for_an_object():
    answers = [Answer((WHOLE, LEFT, SPOT), (0.9, 0.95, 0.9)), Answer((WHOLE, LEFT, SPOT), (0.95, 0.9, 0.9))]
    levels = levels_of(ScriptedBackbone(answers, painted(SIZE, SPOT)))
    np.testing.assert_array_equal(pixels(levels.objects.masks, SIZE), [WHOLE])
    assert levels.objects.predicted_iou.tolist() == pytest.approx([0.95])


def test_unsure_unstable_and_empty_masks_are_not_proposed():
    nothing = np.zeros(SIZE, dtype=np.bool_)
    levels = levels_of(
        ScriptedBackbone([Answer((LEFT, SPOT, nothing), (0.95, 0.5, 0.99))], painted(SIZE)), best_match_thresh=0
    )
    np.testing.assert_array_equal(pixels(levels.objects.masks, SIZE), [LEFT])
    assert len(levels.parts) == 0


def test_of_nearly_equal_objects_the_most_confident_stays():
    masks = mask_set([LEFT, rectangle(SIZE, 0, 0, 22, 20), WHOLE], [0.9, 0.95, 0.92])
    kept = thin_objects(masks, masks.masks, AREA, EntityConfig())
    assert kept.predicted_iou.tolist() == pytest.approx([0.95, 0.92])


def test_dense_regions_tolerate_more_overlap():
    masks = mask_set([LEFT, rectangle(SIZE, 0, 0, 16, 20)], [0.9, 0.8], Level.PART)  # IoU 0.8
    config = EntityConfig(part_nms_thresh=0.7)
    assert len(thin_parts(masks, torch.full_like(AREA, 0.5), AREA, config)) == 1
    assert len(thin_parts(masks, torch.full_like(AREA, 0.9), AREA, config)) == 2


def test_density_is_averaged_over_the_mask_by_area():
    area = torch.tensor([3.0, 1.0, 4.0])
    masks = mask_set([np.array([[True, True, False]]), np.array([[True, False, False]])], [0.9, 0.8], Level.PART)
    config = EntityConfig(part_nms_thresh=0.0)  # IoU is 3/4
    assert len(thin_parts(masks, torch.tensor([0.9, 0.4, 0.0]), area, config)) == 2  # mean 0.775
    assert len(thin_parts(masks, torch.tensor([0.8, 0.4, 1.0]), area, config)) == 1  # mean 0.7
