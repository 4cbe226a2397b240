"""Find the object of a single-object picture among its masks, from all of a teacher's mask probabilities.

Multiple-instance learning is content with the surest masks of a picture, and these are parts: a head, a wheel. Nothing
in it selects the whole animal. Together, however, the sure parts cover the object, so the mask that best fits the
covered area is the whole. Refining weakly supervised detectors by such seeds is due to Tang et al. 2017
(arXiv:1704.00138); the measure of fit is ours.
"""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from everymask.classes.training.bags import UNNAMED, Bags

_FAINT = 0.2
"""Boxes with a smaller share of the picture's largest mean probability count as empty."""
_SAME_IOU = 0.5
"""Masks that overlap the object by more are the object, too."""
_OUTSIDE = 0.3
"""Masks with a smaller share in the object are background."""
_SURE = 0.5
"""Masks with a higher probability of the class are not taken for background."""
_MIN_PROBABILITY = 0.25
"""If no box of a picture has a larger mean probability, its object is not found."""


def object_masks(probability: torch.Tensor, occupancy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split the masks of one picture into its object and its background.

    Args:
        probability: (M,) float, of the picture's class for each mask, [0, 1].
        occupancy: (M, G) float, share of each box of a grid that each mask covers, [0, 1].

    Returns:
        (M,) bool masks that are the object, and (M,) bool masks that are background. Parts of the object, and masks
            that join it with its surroundings, are neither; so are all masks if the class is sure of none.
    """
    nothing = torch.zeros(len(probability), dtype=torch.bool)
    heat = probability @ occupancy / occupancy.sum(dim=0).clamp_min(1e-3)
    peak = heat.max()
    if float(peak) < _MIN_PROBABILITY:
        return nothing, nothing
    heat = (heat / peak - _FAINT).clamp_min(0)
    inside = occupancy @ heat
    area = occupancy.sum(dim=1)
    whole = occupancy[(inside / (area + heat.sum() - inside)).argmax()]
    shared = occupancy @ whole
    is_object = shared / (area + whole.sum() - shared) >= _SAME_IOU
    # A picture may show its class twice: what is surely of the class is no background, wherever it lies.
    return is_object, ~is_object & (shared < _OUTSIDE * area) & (probability < _SURE)


@torch.no_grad()
def object_labels(probabilities: torch.Tensor, bags: Bags) -> torch.Tensor:
    """Name the masks of single-object pictures by a teacher's answers.

    Args:
        probabilities: (N, C + 1) float, background last.
        bags: bags with N masks in all.

    Returns:
        (N,) int64: the picture's class, C for background, `UNNAMED` for masks that are neither.
    """
    labels = torch.full((len(probabilities),), UNNAMED)
    for masks, class_id in zip(bags.ranges, bags.class_ids.tolist(), strict=True):
        is_object, is_background = object_masks(probabilities[masks, class_id], bags.occupancy[masks] / 255)
        labels[masks[is_object]] = class_id
        labels[masks[is_background]] = probabilities.shape[1] - 1
    return labels


def object_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of named masks, objects and background with equal weight.

    Args:
        logits: (N, C + 1) float, background last.
        labels: (N,) int64 as from `object_labels`.

    Returns:
        scalar, 0 when no mask is named.
    """
    background = logits.shape[1] - 1
    parts = [
        cross_entropy(logits[chosen], labels[chosen])
        for chosen in ((labels >= 0) & (labels < background), labels == background)
        if bool(chosen.any())
    ]
    return torch.stack(parts).mean() if parts else logits.sum() * 0
