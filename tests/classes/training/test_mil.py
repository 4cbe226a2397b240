"""Multiple-instance learning against its definitions."""

from __future__ import annotations

import pytest
import torch

from everymask.classes.training.mil import bag_scores, bag_targets, frame_loss, mil_loss


def test_a_bag_is_scored_by_the_mean_of_its_k_largest_activations() -> None:
    torch.manual_seed(0)
    sizes = torch.tensor([1, 7, 20, 8])
    logits = torch.randn(int(sizes.sum()), 5)
    scores = bag_scores(logits, sizes, topk_divisor=4)

    for bag, masks in enumerate(torch.split(logits, sizes.tolist())):
        k = max(1, len(masks) // 4)
        for column in range(5):
            expected = sorted(masks[:, column].tolist(), reverse=True)[:k]
            assert scores[bag, column].item() == pytest.approx(sum(expected) / k, abs=1e-5)


def test_only_the_masks_that_count_receive_a_gradient() -> None:
    logits = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0], [0.0, 9.0]], requires_grad=True)
    torch.autograd.backward(bag_scores(logits, torch.tensor([3, 1]), topk_divisor=2).sum())
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[:3, 0].tolist() == [0.0, 1.0, 0.0]
    assert logits.grad[3].tolist() == [1.0, 1.0]


def test_a_single_object_picture_shows_its_class_and_background() -> None:
    assert bag_targets(torch.tensor([1, 0]), 2, 0.5).tolist() == [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]
    assert bag_targets(torch.tensor([1, 0]), 2, 0.0).tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]


def test_the_loss_is_least_for_equal_scores_of_object_and_background() -> None:
    targets = bag_targets(torch.tensor([0]), 2, 0.5)
    right = mil_loss(torch.tensor([[9.0, -9.0, 9.0]]), targets)
    assert right.item() == pytest.approx(torch.log(torch.tensor(2.0)).item(), abs=1e-4)
    assert mil_loss(torch.tensor([[9.0, -9.0, 0.0]]), targets) > right
    assert mil_loss(torch.tensor([[-9.0, 9.0, 9.0]]), targets) > right


def test_masks_with_more_of_the_frame_than_the_threshold_are_asked_to_be_background() -> None:
    logits = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    share = torch.tensor([0.75, 0.5, 0.25])
    assert frame_loss(logits, share, 0.5).item() == pytest.approx(torch.log(torch.tensor(2.0)).item())
    assert frame_loss(logits, share, 0.75).item() == 0.0
