"""How doubtful labels are: what a person should look at first."""

from __future__ import annotations

from everymask.records import ImageLabels, LabelledMask


def mask_doubt(mask: LabelledMask) -> float:
    """Doubt about one mask, [0, 1]: its uncertainty where it has one, else 1 - score."""
    value = 1 - mask.score if mask.uncertainty is None else mask.uncertainty
    return min(max(value, 0.0), 1.0)


def image_doubt(labels: ImageLabels) -> float:
    """Doubt about the labels of one image, [0, 1].

    Where it is known what was left out, doubt grows with the number n of masks to add or mend, as n / (1 + n): the sum
    of the doubts of the masks and `missed`. Most images with bad class masks are bad by what they lack, and an image
    that shows no class is right without a mask.

    Else the mean over its masks and its most doubtful mask count the same: one bad mask among many good ones is as much
    a reason to look as many middling ones. No mask at all is a doubt of 1. (Both are our choices.)
    """
    doubts = [mask_doubt(mask) for mask in labels.masks]
    if labels.missed is not None:
        to_mend = sum(doubts) + labels.missed
        return to_mend / (1 + to_mend)
    return (max(doubts) + sum(doubts) / len(doubts)) / 2 if doubts else 1.0
