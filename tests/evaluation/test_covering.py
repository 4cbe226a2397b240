from __future__ import annotations

import numpy as np
import pytest

from everymask.errors import InputError
from everymask.evaluation.covering import covering, segmentation_covering
from tests.evaluation.labels import labels

HALVES = np.repeat([[0, 0, 1, 1]], 2, axis=0)


def test_equal_segmentations_cover_each_other_whatever_their_names() -> None:
    assert covering(HALVES + 7, HALVES) == 1.0


def test_under_and_over_segmentation_cost_what_they_miss() -> None:
    one = np.zeros((2, 4), dtype=np.int64)
    columns = np.repeat([[0, 1, 2, 3]], 2, axis=0)
    assert covering(one, HALVES) == pytest.approx(0.5)
    assert covering(columns, HALVES) == pytest.approx(0.5)
    # Both halves weigh the same; one is covered with IoU 1, the other with IoU 1/2.
    assert covering(np.repeat([[0, 0, 1, 2]], 2, axis=0), HALVES) == pytest.approx(0.75)


def test_pixels_in_no_region_cover_nothing() -> None:
    assert covering(np.repeat([[0, 0, -1, -1]], 2, axis=0), HALVES) == pytest.approx(0.5)
    assert covering(np.full((2, 4), -1), HALVES) == 0.0


def test_people_and_images_are_averaged() -> None:
    left = np.repeat([[True, True, False, False]], 2, axis=0)
    prediction = labels([left, ~left], [0.9, 0.8], (2, 4))
    one = np.zeros((2, 4), dtype=np.int64)
    result = segmentation_covering({"a": prediction}, {"a": [HALVES, one], "b": [HALVES]})
    # Image a: 1 with the first annotator, 1/2 with the second; image b has no labels.
    assert result.mean == pytest.approx((0.75 + 0) / 2)
    assert result.best == pytest.approx((1 + 0) / 2)
    assert result.images == 2


def test_labels_of_another_image_are_refused() -> None:
    with pytest.raises(InputError, match=r"b\.jpg is not in the ground truth"):
        segmentation_covering({"b.jpg": labels([], [], (2, 4))}, {"a.jpg": [HALVES]})
