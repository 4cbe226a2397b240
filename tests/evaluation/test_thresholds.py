"""A threshold for each class is where F1 is highest on the images it is chosen on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from everymask.evaluation.ground_truth import ClassTruth, InstanceTruth
from everymask.evaluation.thresholds import MIN_OBJECTS, Judged, best_threshold, is_for_choosing, judge
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels
from tests.evaluation.labels import labels

SIZE = (8, 20)


def box(x0: int, x1: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[:, x0:x1] = True
    return mask


def named(name: str, *masks: tuple[np.ndarray, float]) -> ImageLabels:
    found = labels([mask for mask, _ in masks], [score for _, score in masks], SIZE)
    return replace(found, masks=tuple(replace(mask, class_name=name, predicted_iou=0.8) for mask in found.masks))


def truth(*objects: tuple[np.ndarray, int], crowd: bool = False) -> ClassTruth:
    instances = [InstanceTruth(class_id, encode_mask(mask), float(mask.sum()), crowd) for mask, class_id in objects]
    return ClassTruth(SIZE, tuple(instances), np.zeros(SIZE, np.int32))


@pytest.mark.parametrize(
    ("right", "threshold"),
    [
        ([True] * 5, 0.0),  # the run's own threshold lies below all
        ([True, True, True, False, False], 0.6),  # half way to the first that is not kept
        ([True, False, False, False, False], 0.8),
        ([False, False, False, False, True], 0.0),
        ([True, False, True, False, True], 0.0),
    ],
)
def test_the_threshold_lies_below_the_last_mask_that_pays(right: list[bool], threshold: float) -> None:
    judged = Judged([0.9, 0.7, 0.65, 0.55, 0.3], right, MIN_OBJECTS)
    found = best_threshold(judged)
    assert found == pytest.approx(threshold)
    assert judged.f1(found) == max(judged.f1(other) for other in (0.0, *judged.probabilities))


def test_of_equal_thresholds_the_lowest_is_taken() -> None:
    equal = Judged([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2], [True, *[False] * 5, True, False], 5)
    assert equal.f1(0.9) == equal.f1(0.3) == pytest.approx(1 / 3)
    assert best_threshold(equal) == pytest.approx(0.25)
    nothing_right = Judged([0.9, 0.8], [False, False], 5)
    assert best_threshold(nothing_right) == 0.0


def test_a_handful_of_objects_or_no_mask_decides_nothing() -> None:
    assert best_threshold(Judged([0.9], [True], MIN_OBJECTS - 1)) is None
    assert best_threshold(Judged([0.9], [True], MIN_OBJECTS)) == 0.0
    assert best_threshold(Judged([], [], 99)) is None


def test_f1_counts_masks_at_the_threshold() -> None:
    judged = Judged([0.9, 0.5], [True, False], 3)
    assert (judged.f1(0.5), judged.f1(0.51), judged.f1(0.95)) == (2 / 5, 2 / 4, 0.0)
    assert Judged([], [], 0).f1(0.5) == 0.0


def test_an_object_is_found_once_and_by_masks_of_its_class() -> None:
    known = {"a": truth((box(0, 6), 0), (box(10, 16), 1)), "b": truth((box(0, 6), 0), crowd=True), "c": truth()}
    answers = {
        "a": named("cat", (box(0, 6), 0.9), (box(0, 5), 0.8), (box(10, 16), 0.7), (box(0, 2), 0.6)),
        "c": named("cat", (box(3, 9), 0.75)),
    }
    judged = judge(answers, known, ["cat", "dog"], ["a", "b", "c"], by_iou=False)
    assert judged["cat"] == Judged([0.9, 0.8, 0.75, 0.7, 0.6], [True, False, False, False, False], 1)
    assert judged["dog"] == Judged([], [], 1)
    assert judge(answers, known, ["cat", "dog"], ["b"], by_iou=False)["cat"] == Judged([], [], 0)


@pytest.mark.parametrize(("width", "right"), [(3, True), (2, False)])
def test_half_of_the_object_is_enough(width: int, right: bool) -> None:
    judged = judge({"a": named("cat", (box(0, width), 0.9))}, {"a": truth((box(0, 6), 0))}, ["cat"], ["a"], False)
    assert judged["cat"].right == [right]


def test_a_score_by_iou_is_no_probability() -> None:
    found = judge({"a": named("cat", (box(0, 6), 0.4), (box(8, 9), 0.9))}, {"a": truth()}, ["cat"], ["a"], by_iou=True)
    assert found["cat"].probabilities == [1.0, pytest.approx(0.5)]


def test_half_of_the_images_are_for_choosing_whatever_they_are_called() -> None:
    names = [f"{number}.jpg" for number in range(400)] + ["\ud800.jpg"]
    share = np.mean([is_for_choosing(name) for name in names])
    assert 0.4 < share < 0.6
    assert [is_for_choosing(name) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")] == [True, True, False, True]
