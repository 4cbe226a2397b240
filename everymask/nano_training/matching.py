"""How a student's maps are held against its teacher's: whitened features, and the classes the teacher sees in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from everymask.nano_training.teacher import Teacher

TARGETS = ("stride8", "stride16", "stride32")
TARGET_CHANNELS = (32, 96, 320)
"""Of the teacher's maps."""
_FARTHEST = 5.0
"""Deviations from the mean at which a target is cut off."""
_TEMPERATURE = 1.5


class ChannelStatistics(NamedTuple):
    """Mean and standard deviation of a map's channels, (1, C, 1, 1) each. Students predict whitened values."""

    mean: torch.Tensor
    deviation: torch.Tensor

    @staticmethod
    def measure(columns: Sequence[torch.Tensor]) -> ChannelStatistics:
        """From (C, n) values of any float type."""
        values = torch.cat([part.float() for part in columns], dim=1)
        return ChannelStatistics(values.mean(dim=1).view(1, -1, 1, 1), values.std(dim=1).add(1e-3).view(1, -1, 1, 1))

    def whiten(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) of the teacher → what a student should answer."""
        return ((maps - self.mean) / self.deviation).clamp(-_FARTHEST, _FARTHEST)

    def colour(self, answer: torch.Tensor) -> torch.Tensor:
        """A student's answer (B, C, h, w) in the teacher's units."""
        return answer * self.deviation + self.mean


def class_divergence(
    teacher: Teacher, given: torch.Tensor, wanted: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Of the teacher's classes on a student's features from those on its own, averaged over the batch.

    Args:
        given: (B, 320, h, w) the student's features in the teacher's units.
        wanted: (B, 320, h, w) the teacher's.
        present: (B, 1, h, w), 1 where a picture is; features are averaged there before they are classified.
    """
    with torch.no_grad():
        target = (teacher.classify(wanted, present).float() / _TEMPERATURE).softmax(1)
    answer = (teacher.classify(given, present).float() / _TEMPERATURE).log_softmax(1)
    return functional.kl_div(answer, target, reduction="batchmean")
