import numpy as np
import pytest

from everymask.errors import InputError
from everymask.evaluation.entity_ap import EntityAp, entity_ap
from everymask.evaluation.ground_truth import EntityTruth
from everymask.masks.rle import encode_mask
from tests.evaluation.labels import labels

SIZE = (10, 20)


def box(x0, x1, y0=0, y1=10):
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def truth(*masks, iscrowd=None):
    return EntityTruth(SIZE, tuple(encode_mask(mask) for mask in masks), tuple(iscrowd or [False] * len(masks)))


def test_perfect_masks_score_one():
    result = entity_ap(
        {"a": labels([box(0, 10), box(10, 20)], [0.9, 0.8], SIZE)}, {"a": truth(box(0, 10), box(10, 20))}
    )
    assert result == EntityAp(*[pytest.approx(1)] * 3, images=1, entities=2, predictions=2)


def test_a_mask_counts_up_to_that_threshold():
    found = box(0, 8) | box(8, 9, 0, 2)
    result = entity_ap({"a": labels([found], [0.9], SIZE)}, {"a": truth(box(0, 10))})
    # IoU 0.82 is right at 0.50, 0.55, …, 0.80: seven of ten thresholds.
    assert (result.ap, result.ap50, result.ap75) == pytest.approx((0.7, 1.0, 1.0))


def test_a_wrong_mask_ranked_first_halves_the_precision():
    entity, wrong = box(0, 10), box(12, 20)
    result = entity_ap({"a": labels([wrong, entity], [0.9, 0.8], SIZE)}, {"a": truth(entity)})
    assert result.ap == pytest.approx(0.5)
    after = entity_ap({"a": labels([wrong, entity], [0.7, 0.8], SIZE)}, {"a": truth(entity)})
    assert after.ap == pytest.approx(1.0)


def test_ranks_are_shared_by_all_images_and_an_image_without_labels_found_nothing():
    result = entity_ap({"a": labels([box(0, 10)], [0.9], SIZE)}, {"a": truth(box(0, 10)), "b": truth(box(0, 10))})
    # Recall reaches 1/2 at precision 1: 51 of COCO's 101 recall points.
    assert result.ap == pytest.approx(51 / 101)
    assert (result.images, result.entities) == (2, 2)


def test_a_group_is_neither_right_nor_wrong():
    found = labels([box(0, 10), box(12, 16), box(16, 20)], [0.5, 0.9, 0.8], SIZE)
    assert entity_ap({"a": found}, {"a": truth(box(0, 10), box(10, 20), iscrowd=[False, True])}).ap == pytest.approx(1)


def test_there_is_no_limit_of_a_hundred_masks():
    size = (4, 300)
    masks = [np.zeros(size, dtype=np.bool_) for _ in range(150)]
    for position, mask in enumerate(masks):
        mask[:, 2 * position] = True
    whole = EntityTruth(size, tuple(encode_mask(mask) for mask in masks), (False,) * 150)
    assert entity_ap({"a": labels(masks, [0.5] * 150, size)}, {"a": whole}).ap == pytest.approx(1)


def test_no_prediction_at_all_scores_zero():
    assert entity_ap({"a": labels([], [], SIZE)}, {"a": truth(box(0, 10))}).ap == 0.0


def test_overlap_is_refused():
    with pytest.raises(InputError, match="masks of a overlap in 40 pixels"):
        entity_ap({"a": labels([box(0, 12), box(8, 20)], [0.8, 0.9], SIZE)}, {"a": truth(box(0, 10))})


def test_labels_of_another_image_or_size_are_refused():
    with pytest.raises(InputError, match=r"b\.jpg is not in the ground truth"):
        entity_ap({"b.jpg": labels([], [], SIZE)}, {"a": truth()})
    with pytest.raises(InputError, match="5x5 pixels, its ground truth for 10x20"):
        entity_ap({"a": labels([], [], (5, 5))}, {"a": truth()})
