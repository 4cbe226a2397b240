import pytest
import torch

from everymask.classes.training.distillation import bad_masks, uncertainty_loss

CONFIDENT = 20.0


def test_uncertain_and_surely_wrong_masks_are_bad_and_background_is_not():
    logits = torch.tensor(
        [
            [CONFIDENT, 0.0, 0.0],  # the picture's class
            [0.0, 0.0, CONFIDENT],  # background
            [0.0, CONFIDENT, 0.0],  # surely another class
            [0.1, 0.0, 0.0],  # uncertain, though its best guess is right
        ]
    )
    bad = bad_masks(logits, torch.zeros(4, dtype=torch.int64), entropy_thresh=0.5)
    assert bad.tolist() == [False, False, True, True]


def test_the_loss_is_zero_when_uniform_and_grows_with_certainty():
    uniform = uncertainty_loss(torch.zeros(3, 4))
    some = uncertainty_loss(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    sure = uncertainty_loss(torch.tensor([[CONFIDENT, 0.0, 0.0, 0.0]]))
    assert uniform.item() == pytest.approx(0.0, abs=1e-6)
    assert 0 < some < sure


def test_descending_the_loss_makes_a_certain_mask_uncertain():
    logits = torch.tensor([[CONFIDENT, 0.0, 0.0]], requires_grad=True)
    uncertainty_loss(logits).backward()
    assert logits.grad[0, 0] > 0.1


def test_no_bad_mask_costs_nothing():
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = uncertainty_loss(logits)
    loss.backward()
    assert loss.item() == 0
