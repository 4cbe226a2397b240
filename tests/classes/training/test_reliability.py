from __future__ import annotations

import pytest
import torch

from everymask.classes.head import ClassHead
from everymask.classes.training.bags import no_bags
from everymask.classes.training.reliability import held_out_reliability, reliability
from everymask.classes.training.train import train_head
from tests.classes.training.synthetic import CONFIG, DIM, spec, synthetic_bags


def test_masks_as_often_right_as_they_are_probable_have_no_calibration_error() -> None:
    likelihood = torch.tensor([0.75] * 4 + [0.5] * 2)
    right = torch.tensor([True, True, True, False, True, False])
    found = reliability(likelihood, 1 - likelihood, right)
    assert [(each.probability, each.right, each.count) for each in found.bins] == [(0.5, 0.5, 2), (0.75, 0.75, 4)]
    assert found.calibration_error == pytest.approx(0)


def test_overconfidence_is_the_calibration_error() -> None:
    found = reliability(torch.full((10,), 0.9), torch.zeros(10), torch.arange(10) < 4)
    assert found.calibration_error == pytest.approx(0.5)
    assert found.wrong_name_auroc == 0.5


def test_uncertainty_orders_wrong_masks_before_right_ones_where_it_tells_of_them() -> None:
    right = torch.tensor([True, True, False, False])
    telling = reliability(torch.full((4,), 0.8), torch.tensor([0.1, 0.1, 0.9, 0.9]), right)
    misleading = reliability(torch.full((4,), 0.8), torch.tensor([0.9, 0.9, 0.1, 0.1]), right)
    saying_nothing = reliability(torch.full((4,), 0.8), torch.full((4,), 0.3), right)
    assert (telling.wrong_name_auroc, misleading.wrong_name_auroc, saying_nothing.wrong_name_auroc) == (1, 0, 0.5)
    all_right = reliability(torch.full((4,), 0.8), torch.rand(4), torch.ones(4, dtype=torch.bool))
    assert all_right.wrong_name_auroc is None


def test_a_head_is_judged_by_pictures_it_has_not_learnt_from() -> None:
    bags, _ = synthetic_bags(3, per_class=12)
    result = train_head(bags, spec(3), CONFIG)
    found = held_out_reliability(result.head, result.held_out)
    assert found is not None
    assert sum(each.count for each in found.bins) >= len(result.held_out)
    assert found.bins[-1].right > 0.9


def test_nothing_held_out_says_nothing() -> None:
    assert held_out_reliability(ClassHead(spec(3)).eval(), no_bags(DIM)) is None
