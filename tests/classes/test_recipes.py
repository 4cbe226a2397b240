"""The paper's recipe is one switch, and what a user sets beside it wins."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from data_jobs.label_dataset import command as label
from data_jobs.train_classes import command as train
from everymask.classes.config import ClassesConfig, MaskConfig
from everymask.classes.recipes import PAPER_CLASSES, PAPER_MASKS, PAPER_TRAINING, paper_classes
from everymask.classes.training.train import TrainingConfig, picture_loss
from serve.settings import read_settings
from tests.classes.training.synthetic import synthetic_bags


@pytest.mark.parametrize(
    ("config", "values"),
    [(MaskConfig(), PAPER_MASKS), (ClassesConfig(), PAPER_CLASSES), (TrainingConfig(), PAPER_TRAINING)],
)
def test_every_value_is_a_field_that_the_default_sets_otherwise(config: object, values: dict[str, object]) -> None:
    assert set(values) <= {field.name for field in fields(config)}  # type: ignore[arg-type]
    assert [name for name, value in values.items() if getattr(config, name) == value] == []


def test_what_is_given_wins_in_python_on_the_command_line_and_in_a_service() -> None:
    python = paper_classes(area_exponent=0.25, score_thresh=0.2)
    words = ["--input=i", "--output=o", "--method=classes", "--head=h", "--recipe=paper"]
    typed = label.parse([*words, "--classes.area-exponent=0.25", "--classes.score-thresh=0.2"]).labels.classes
    args = {"recipe": "paper", "classes": {"area_exponent": 0.25, "score_thresh": 0.2}}
    assert python == typed == read_settings(args).labels.classes
    assert (python.area_exponent, python.score, python.masks.max_masks) == (0.25, "probability", None)


def test_training_by_the_paper_keeps_what_is_given() -> None:
    config = train.parse(
        ["--exemplars=e", "--output=o.safetensors", "--recipe=paper", "--training.dropout=0.1", "--training.epochs=3"]
    )
    assert (config.training.dropout, config.training.epochs, config.training.features) == (0.1, 3, "token")
    assert config.masks == MaskConfig(**PAPER_MASKS)


def test_the_papers_loss_is_cross_entropy_of_bag_scores_alone() -> None:
    bags, _ = synthetic_bags(3, 4)
    logits = torch.randn(len(bags.inputs), 4, generator=torch.Generator().manual_seed(1))
    config = TrainingConfig(**PAPER_TRAINING)
    expected = 0.0
    for masks, class_id in zip(bags.ranges, bags.class_ids.tolist(), strict=True):
        k = max(1, len(masks) // config.topk_divisor)
        scores = logits[masks].topk(k, dim=0).values.mean(dim=0)
        expected -= float(scores.log_softmax(dim=0)[class_id])
    assert float(picture_loss(logits, bags, config)) == pytest.approx(expected / len(bags), abs=1e-4)
