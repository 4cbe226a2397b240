"""Uncertainty distillation (section 3.5, eq. 3): the student stays unsure where its teacher is unsure or wrong."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch.nn.functional import log_softmax

from everymask.classes.uncertainty import normalised_entropy

UncertaintyLoss = Literal["uniform_divergence", "negative_entropy"]


def bad_masks(
    teacher_logits: torch.Tensor, class_ids: torch.Tensor, entropy_thresh: float, background_is_wrong: bool
) -> torch.Tensor:
    """The masks with unreliable teacher predictions.

    These are the uncertain ones (normalised entropy above the threshold) and those surely of a class that the picture
    does not show.

    Args:
        teacher_logits: (N, C + 1) float, background last.
        class_ids: (N,) int64, the class of the picture each mask is from.
        entropy_thresh: η in [0, 1]. The paper's value is lost.
        background_is_wrong: whether a sure background prediction counts as wrong, as in the paper's text. Most masks of
            a single-object picture are background, so by default it does not (our choice).

    Returns:
        (N,) bool.
    """
    probabilities = teacher_logits.softmax(dim=-1)
    predicted = probabilities.argmax(dim=-1)
    background = teacher_logits.shape[-1] - 1
    wrong = predicted != class_ids
    if not background_is_wrong:
        wrong &= predicted != background
    return (normalised_entropy(probabilities) > entropy_thresh) | wrong


def uncertainty_loss(student_logits: torch.Tensor, kind: UncertaintyLoss) -> torch.Tensor:
    """Certainty of the student on bad masks, to be minimised (eq. 3, which is lost from the paper's text).

    Args:
        student_logits: (N_bad, K) float.
        kind: `negative_entropy`, the obvious reading of eq. 3, plus log K; or `uniform_divergence`, the KL divergence
            of the uniform distribution from the student's (our choice). The second punishes every ruled-out class, so
            its gradient does not vanish where the student is most certain.

    Returns:
        scalar, 0 when all are uniform and when there is no bad mask.
    """
    if len(student_logits) == 0:
        return student_logits.sum()
    log_probabilities = log_softmax(student_logits, dim=-1)
    log_count = math.log(student_logits.shape[-1])
    if kind == "negative_entropy":
        return (log_probabilities.exp() * log_probabilities).sum(dim=-1).mean() + log_count
    return -log_probabilities.mean() - log_count
