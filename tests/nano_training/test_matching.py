from __future__ import annotations

from pathlib import Path

import pytest
import torch

from everymask.nano_training.matching import ChannelStatistics, class_divergence
from everymask.nano_training.teacher import Teacher
from tests.nano_training.random_teacher import write_random_teacher


def test_whitened_channels_have_no_mean_and_a_deviation_of_one() -> None:
    columns = torch.randn(3, 1000) * torch.tensor([[1.0], [5.0], [0.1]]) + torch.tensor([[2.0], [-7.0], [0.0]])
    statistics = ChannelStatistics.measure([columns[:, :300], columns[:, 300:]])
    maps = columns.view(1, 3, 20, 50)
    whitened = statistics.whiten(maps)
    torch.testing.assert_close(whitened.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(whitened.std(dim=(0, 2, 3)), torch.ones(3), atol=2e-2, rtol=0)
    torch.testing.assert_close(statistics.colour(whitened), maps, atol=1e-4, rtol=1e-4)
    assert float(statistics.whiten(maps + 1e6).max()) == 5


def test_class_divergence_is_of_the_teachers_answers_where_a_picture_is(tmp_path: Path) -> None:
    teacher = Teacher(write_random_teacher(tmp_path / "teacher.safetensors"))
    given, wanted = torch.randn(2, 320, 2, 2), torch.randn(2, 320, 2, 2)
    present = torch.ones(2, 1, 2, 2)
    present[1, :, 1] = 0
    answer = (teacher.classify(given, present) / 1.5).softmax(1)
    target = (teacher.classify(wanted, present) / 1.5).softmax(1)
    expected = (target * (target / answer).log()).sum() / 2
    torch.testing.assert_close(class_divergence(teacher, given, wanted, present), expected, atol=1e-4, rtol=1e-4)
    assert float(class_divergence(teacher, wanted, wanted, present)) == pytest.approx(0, abs=1e-5)
    elsewhere = torch.where(present > 0, wanted, given)
    assert float(class_divergence(teacher, elsewhere, wanted, present)) == pytest.approx(0, abs=1e-5)
