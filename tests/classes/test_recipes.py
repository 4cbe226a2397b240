"""The paper's recipe is one switch, and what a user sets beside it wins."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.recipes import PAPER_CLASSES, PAPER_MASKS, PAPER_TRAINING, follow
from everymask.classes.training.train import TrainingConfig, picture_loss
from tests.classes.training.test_train import synthetic_bags


@pytest.mark.parametrize(
    ("config", "values"),
    [(MaskConfig(), PAPER_MASKS), (ClassesConfig(), PAPER_CLASSES), (TrainingConfig(), PAPER_TRAINING)],
)
def test_every_value_is_a_field_that_the_default_sets_otherwise(config: object, values: dict[str, object]) -> None:
    assert set(values) <= {field.name for field in fields(config)}  # type: ignore[arg-type]
    followed = follow(config, "paper", values)
    for name, value in values.items():
        assert getattr(followed, name) == value != getattr(config, name)
    assert follow(config, "default", values) is config


def test_what_the_user_sets_wins() -> None:
    followed = follow(TrainingConfig(dropout=0.3, epochs=3), "paper", PAPER_TRAINING)
    assert (followed.dropout, followed.epochs, followed.features) == (0.3, 3, "token")


def test_the_papers_loss_is_cross_entropy_of_bag_scores_alone() -> None:
    bags, _ = synthetic_bags(3, 4)
    logits = torch.randn(len(bags.inputs), 4, generator=torch.Generator().manual_seed(1))
    config = follow(TrainingConfig(), "paper", PAPER_TRAINING)
    expected = 0.0
    for masks, class_id in zip(bags.ranges, bags.class_ids.tolist(), strict=True):
        k = max(1, len(masks) // config.topk_divisor)
        scores = logits[masks].topk(k, dim=0).values.mean(dim=0)
        expected -= float(scores.log_softmax(dim=0)[class_id])
    assert float(picture_loss(logits, bags, config)) == pytest.approx(expected / len(bags), abs=1e-4)
