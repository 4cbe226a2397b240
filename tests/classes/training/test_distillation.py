"""Uncertainty distillation against its definitions."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from everymask.classes.training.distillation import UncertaintyLoss, bad_masks, uncertainty_loss

CONFIDENT = 20.0
KINDS = get_args(UncertaintyLoss)


@pytest.mark.parametrize("background_is_wrong", [False, True])
def test_uncertain_and_surely_wrong_masks_are_bad(background_is_wrong: bool) -> None:
    logits = torch.tensor(
        [
            [CONFIDENT, 0.0, 0.0],  # the picture's class
            [0.0, 0.0, CONFIDENT],  # background
            [0.0, CONFIDENT, 0.0],  # surely another class
            [0.1, 0.0, 0.0],  # uncertain, though its best guess is right
        ]
    )
    bad = bad_masks(logits, torch.zeros(4, dtype=torch.int64), 0.5, background_is_wrong)
    assert bad.tolist() == [False, background_is_wrong, True, True]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_zero_when_uniform_and_grows_with_certainty(kind: UncertaintyLoss) -> None:
    uniform = uncertainty_loss(torch.zeros(3, 4), kind)
    some = uncertainty_loss(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), kind)
    sure = uncertainty_loss(torch.tensor([[CONFIDENT, 0.0, 0.0, 0.0]]), kind)
    assert uniform.item() == pytest.approx(0.0, abs=1e-6)
    assert 0 < some < sure


def test_negative_entropy_is_what_its_name_says() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    loss = uncertainty_loss(logits, "negative_entropy")
    assert loss.item() == pytest.approx(torch.log(torch.tensor(4.0)).item() - entropy.item(), abs=1e-5)


def test_descending_the_divergence_makes_a_certain_mask_uncertain() -> None:
    logits = torch.tensor([[CONFIDENT, 0.0, 0.0]], requires_grad=True)
    torch.autograd.backward(uncertainty_loss(logits, "uniform_divergence"))
    assert logits.grad is not None
    assert logits.grad[0, 0] > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_no_bad_mask_costs_nothing(kind: UncertaintyLoss) -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = uncertainty_loss(logits, kind)
    torch.autograd.backward(loss)
    assert loss.item() == 0
