from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from everymask.errors import InputError
from everymask.evaluation.entity_ap import EntityAp, match_entities
from everymask.evaluation.ground_truth import EntityTruth
from everymask.masks.rle import encode_mask
from tests.evaluation.labels import labels

SIZE = (10, 20)


def box(x0: int, x1: int, y0: int = 0, y1: int = 10) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def truth(*masks: NDArray[np.bool_], iscrowd: Sequence[bool] | None = None) -> EntityTruth:
    return EntityTruth(SIZE, tuple(encode_mask(mask) for mask in masks), tuple(iscrowd or [False] * len(masks)))


def test_perfect_masks_score_one() -> None:
    result = match_entities(
        {"a": labels([box(0, 10), box(10, 20)], [0.9, 0.8], SIZE)}, {"a": truth(box(0, 10), box(10, 20))}
    ).figures()
    assert result == EntityAp(*[pytest.approx(1)] * 3, images=1, entities=2, predictions=2)


def test_a_mask_counts_up_to_that_threshold() -> None:
    found = box(0, 8) | box(8, 9, 0, 2)
    result = match_entities({"a": labels([found], [0.9], SIZE)}, {"a": truth(box(0, 10))}).figures()
    # IoU 0.82 is right at 0.50, 0.55, …, 0.80: seven of ten thresholds.
    assert (result.ap, result.ap50, result.ap75) == pytest.approx((0.7, 1.0, 1.0))


def test_a_wrong_mask_ranked_first_halves_the_precision() -> None:
    entity, wrong = box(0, 10), box(12, 20)
    result = match_entities({"a": labels([wrong, entity], [0.9, 0.8], SIZE)}, {"a": truth(entity)}).figures()
    assert result.ap == pytest.approx(0.5)
    after = match_entities({"a": labels([wrong, entity], [0.7, 0.8], SIZE)}, {"a": truth(entity)}).figures()
    assert after.ap == pytest.approx(1.0)


def test_ranks_are_shared_by_all_images_and_an_image_without_labels_found_nothing() -> None:
    result = match_entities(
        {"a": labels([box(0, 10)], [0.9], SIZE)}, {"a": truth(box(0, 10)), "b": truth(box(0, 10))}
    ).figures()
    # Recall reaches 1/2 at precision 1: 51 of COCO's 101 recall points.
    assert result.ap == pytest.approx(51 / 101)
    assert (result.images, result.entities) == (2, 2)


def test_a_group_is_neither_right_nor_wrong() -> None:
    found = labels([box(0, 10), box(12, 16), box(16, 20)], [0.5, 0.9, 0.8], SIZE)
    assert match_entities(
        {"a": found}, {"a": truth(box(0, 10), box(10, 20), iscrowd=[False, True])}
    ).figures().ap == pytest.approx(1)


def test_there_is_no_limit_of_a_hundred_masks() -> None:
    size = (4, 300)
    masks = [np.zeros(size, dtype=np.bool_) for _ in range(150)]
    for position, mask in enumerate(masks):
        mask[:, 2 * position] = True
    whole = EntityTruth(size, tuple(encode_mask(mask) for mask in masks), (False,) * 150)
    assert match_entities({"a": labels(masks, [0.5] * 150, size)}, {"a": whole}).figures().ap == pytest.approx(1)


def test_no_prediction_at_all_scores_zero() -> None:
    assert match_entities({"a": labels([], [], SIZE)}, {"a": truth(box(0, 10))}).figures().ap == 0.0


def test_overlap_is_refused() -> None:
    with pytest.raises(InputError, match="masks of a overlap in 40 pixels"):
        match_entities({"a": labels([box(0, 12), box(8, 20)], [0.8, 0.9], SIZE)}, {"a": truth(box(0, 10))}).figures()


def test_labels_of_another_image_or_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"b\.jpg is not in the ground truth"):
        match_entities({"b.jpg": labels([], [], SIZE)}, {"a": truth()}).figures()
    with pytest.raises(InputError, match="5x5 pixels, its ground truth for 10x20"):
        match_entities({"a": labels([], [], (5, 5))}, {"a": truth()}).figures()


def test_overlap_may_be_allowed() -> None:
    found = labels([box(0, 12), box(8, 20)], [0.8, 0.9], SIZE)
    assert match_entities(
        {"a": found}, {"a": truth(box(0, 12), box(8, 20))}, allow_overlap=True
    ).figures().ap == pytest.approx(1)


def pictures(count: int, seed: int = 0) -> Any:
    """Truth and predictions of random boxes, some of them groups, some images without any."""
    generator = np.random.default_rng(seed)
    predictions, known = {}, {}
    for index in range(count):
        edges = np.unique(generator.integers(0, 20, 6))
        entities = [box(a, b) for a, b in itertools.pairwise(edges)]
        known[str(index)] = truth(*entities, iscrowd=[bool(generator.random() < 0.2) for _ in entities])
        moved = [np.roll(mask, generator.integers(0, 3), axis=1) for mask in entities if generator.random() < 0.8]
        scores = generator.integers(0, 5, len(moved)) / 5
        predictions[str(index)] = labels(moved, scores.tolist(), SIZE)
    return predictions, known


def by_pycocotools(predictions: Any, known: Any, max_dets: int | None) -> NDArray[np.float64]:
    annotations = [
        {"image_id": image, "segmentation": rle, "iscrowd": int(crowd), "area": 1, "category_id": 1, "bbox": [0] * 4}
        for image, one in enumerate(known.values(), start=1)
        for rle, crowd in zip(one.entities, one.iscrowd, strict=True)
    ]
    detections = [
        {"image_id": image, "segmentation": mask.rle, "score": mask.score, "area": 1, "category_id": 1, "bbox": [0] * 4}
        for image, name in enumerate(known, start=1)
        for mask in predictions[name].masks
    ]
    sides = []
    for rows in (annotations, detections):
        side = COCO()
        rows = [row | {"id": number} for number, row in enumerate(rows, start=1)]
        side.dataset = {
            "images": [{"id": image, "height": SIZE[0], "width": SIZE[1]} for image in range(1, len(known) + 1)],
            "annotations": rows,
            "categories": [{"id": 1}],
        }
        sides.append(side)
    with contextlib.redirect_stdout(io.StringIO()):
        for side in sides:
            side.createIndex()
        evaluation = COCOeval(*sides, "segm")
        evaluation.params.maxDets = [max_dets]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][..., 0, 0, 0].mean(axis=1)


@pytest.mark.parametrize("max_dets", [1, 2, 100])
def test_precisions_are_those_of_pycocotools(max_dets: int | None) -> None:
    predictions, known = pictures(12)
    matches = match_entities(predictions, known, allow_overlap=True)
    expected = by_pycocotools(predictions, known, max_dets)
    assert matches.average_precisions(max_dets=max_dets) == pytest.approx(expected)
    if max_dets == 100:
        assert matches.figures().ap == pytest.approx(expected.mean())


def test_an_image_counts_as_often_as_its_weight_says() -> None:
    predictions, known = pictures(4)
    matches = match_entities(predictions, known, allow_overlap=True)
    copies = [f"{name}" for name in known] + ["2", "2"]
    repeated = {f"{name} {index}": known[name] for index, name in enumerate(copies)}
    found = {f"{name} {index}": predictions[name] for index, name in enumerate(copies)}
    twice = match_entities(found, repeated, allow_overlap=True).average_precisions()
    assert matches.average_precisions(np.array([1, 1, 3, 1])) == pytest.approx(twice)
    without = {name: known[name] for name in ("0", "1", "3")}
    left_out = match_entities({name: predictions[name] for name in without}, without, allow_overlap=True)
    assert matches.average_precisions(np.array([1, 1, 0, 1])) == pytest.approx(left_out.average_precisions())


def test_the_bootstrap_holds_the_figure_and_draws_the_same_images_for_all() -> None:
    predictions, known = pictures(40)
    matches = match_entities(predictions, known, allow_overlap=True)
    drawn = matches.bootstrap(200)
    assert np.quantile(drawn, 0.025) < matches.figures().ap < np.quantile(drawn, 0.975)
    assert np.array_equal(drawn, match_entities(predictions, known, allow_overlap=True).bootstrap(200))
