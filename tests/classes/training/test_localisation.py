from __future__ import annotations

import math

import pytest
import torch

from everymask.classes.training.bags import UNNAMED, Bags
from everymask.classes.training.localisation import object_labels, object_loss, object_masks


def boxes(*rectangles: tuple[int, int, int, int]) -> torch.Tensor:
    """(M, 64) float occupancy of rectangles (x0, y0, x1, y1) on an 8 x 8 grid."""
    grid = torch.zeros(len(rectangles), 8, 8)
    for mask, (x0, y0, x1, y1) in zip(grid, rectangles, strict=True):
        mask[y0:y1, x0:x1] = 1
    return grid.flatten(1)


HEAD, BODY, WHOLE, SKY, GROUND, ALL = range(6)
ANIMAL = boxes((2, 2, 4, 6), (4, 2, 6, 6), (2, 2, 6, 6), (0, 0, 8, 2), (0, 6, 8, 8), (0, 0, 8, 8))


def test_the_whole_is_found_by_its_parts_though_they_are_surer_than_it() -> None:
    is_object, is_background = object_masks(torch.tensor([0.9, 0.9, 0.3, 0.05, 0.05, 0.05]), ANIMAL)
    assert is_object.tolist() == [i in (HEAD, BODY, WHOLE) for i in range(6)]
    assert is_background.tolist() == [i in (SKY, GROUND, ALL) for i in range(6)]


def test_a_part_smaller_than_half_and_a_mask_that_joins_object_and_surroundings_stay_unnamed() -> None:
    occupancy = torch.cat([ANIMAL, boxes((2, 2, 3, 4), (2, 0, 8, 8))])
    probability = torch.tensor([0.9, 0.9, 0.8, 0.0, 0.0, 0.1, 0.9, 0.1])
    is_object, is_background = object_masks(probability, occupancy)
    assert is_object[WHOLE]
    assert not (is_object | is_background)[6:].any()


def test_a_second_object_of_the_class_is_no_background() -> None:
    occupancy = torch.cat([ANIMAL, boxes((6, 3, 8, 5), (6, 5, 8, 6))])
    probability = torch.tensor([0.9, 0.9, 0.8, 0.0, 0.0, 0.1, 0.8, 0.2])
    is_object, is_background = object_masks(probability, occupancy)
    assert is_object[WHOLE]
    assert not is_object[6:].any()
    assert is_background[6:].tolist() == [False, True]


def test_nothing_is_named_where_the_class_is_sure_of_no_mask() -> None:
    is_object, is_background = object_masks(torch.full((6,), 0.1), ANIMAL)
    assert not is_object.any()
    assert not is_background.any()


def test_labels_are_the_pictures_class_background_or_unnamed() -> None:
    bags = Bags(
        torch.zeros(12, 1),
        torch.zeros(12),
        (ANIMAL * 255).to(torch.uint8).repeat(2, 1),
        torch.full((12,), UNNAMED),
        torch.tensor([6, 6]),
        torch.tensor([0, 1]),
        ("a", "b"),
    )
    probabilities = torch.zeros(12, 3)
    probabilities[:6, 0] = torch.tensor([0.9, 0.9, 0.8, 0.0, 0.0, 0.0])
    probabilities[6:, 0] = 0.9  # Of another class than the picture's: says nothing.
    probabilities[:, 2] = 1 - probabilities[:, 0]
    assert object_labels(probabilities, bags).tolist() == [0, 0, 0, 2, 2, 2] + [UNNAMED] * 6


def test_objects_and_background_weigh_the_same_however_many_they_are() -> None:
    logits = torch.tensor([[0.0, 3.0]] * 99 + [[0.0, 0.0]])
    labels = torch.tensor([1] * 99 + [0])
    expected = (math.log1p(math.exp(-3.0)) + math.log(2.0)) / 2
    assert object_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_unnamed_masks_cost_nothing() -> None:
    logits = torch.zeros(3, 2, requires_grad=True)
    loss = object_loss(logits, torch.full((3,), UNNAMED))
    loss.backward()
    assert loss.item() == 0
