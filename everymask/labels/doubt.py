"""How doubtful labels are: what a person should look at first."""

from __future__ import annotations

from everymask.records import ImageLabels, LabelledMask


def mask_doubt(mask: LabelledMask) -> float:
    """Doubt about one mask, [0, 1]: its uncertainty where it has one, else 1 - score."""
    value = 1 - mask.score if mask.uncertainty is None else mask.uncertainty
    return min(max(value, 0.0), 1.0)


def image_doubt(labels: ImageLabels) -> float:
    """Doubt about the labels of one image, [0, 1]; 1 where there is no mask at all.

    The mean over its masks and its most doubtful mask count the same (our choice): one bad mask among many good ones is
    as much a reason to look as many middling ones.
    """
    doubts = [mask_doubt(mask) for mask in labels.masks]
    return (max(doubts) + sum(doubts) / len(doubts)) / 2 if doubts else 1.0
