"""Uncertainty distillation (section 3.5, eq. 3): where its teacher is unsure or wrong, the student stays unsure."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import log_softmax

from everymask.classes.uncertainty import normalised_entropy


def bad_masks(teacher_logits: torch.Tensor, class_ids: torch.Tensor, entropy_thresh: float) -> torch.Tensor:
    """The masks whose teacher predictions are not to be relied on.

    These are the uncertain ones (normalised entropy above the threshold) and those surely of a class that the picture
    does not show. Background is never wrong: most masks of a single-object picture are background (our reading).

    Args:
        teacher_logits: (N, C + 1) float, background last.
        class_ids: (N,) int64, the class of the picture each mask is from.
        entropy_thresh: η in [0, 1]. The paper's value is lost.

    Returns:
        (N,) bool.
    """
    probabilities = teacher_logits.softmax(dim=-1)
    predicted = probabilities.argmax(dim=-1)
    background = teacher_logits.shape[-1] - 1
    wrong = (predicted != class_ids) & (predicted != background)
    return (normalised_entropy(probabilities) > entropy_thresh) | wrong


def uncertainty_loss(student_logits: torch.Tensor) -> torch.Tensor:
    """Certainty of the student on bad masks, to be minimised: KL divergence of the uniform distribution from its own.

    The paper's eq. 3 is lost. Our choice punishes every class that is ruled out, so that the gradient does not vanish
    when the student is most certain, as that of its negative entropy does.

    Args:
        student_logits: (N_bad, K) float.

    Returns:
        scalar, 0 when all are uniform and when there is no bad mask.
    """
    if len(student_logits) == 0:
        return student_logits.sum()
    return -log_softmax(student_logits, dim=-1).mean() - math.log(student_logits.shape[-1])
