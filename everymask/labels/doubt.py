"""How doubtful labels are, to order what people should check."""

from __future__ import annotations

from everymask.records import ImageLabels, LabelledMask


def mask_doubt(mask: LabelledMask) -> float:
    """Doubt about one mask, [0, 1]: its uncertainty where it has one, else 1 - score."""
    value = 1 - mask.score if mask.uncertainty is None else mask.uncertainty
    return min(max(value, 0.0), 1.0)


def image_doubt(labels: ImageLabels) -> float:
    """Doubt about one image's labels, [0, 1].

    If `missed` is known, doubt is n / (1 + n), where n, the expected number of masks to add or mend, is the sum of the
    masks' doubts and `missed`: most bad images of classes are bad by what they lack, and an image that shows no class
    is right without a mask.

    Otherwise it is the average of the masks' mean doubt and the largest one: one bad mask among many good ones is as
    much a reason to look as many middling ones. An image without masks has doubt 1. (Both are our choices.)
    """
    doubts = [mask_doubt(mask) for mask in labels.masks]
    if labels.missed is not None:
        to_mend = sum(doubts) + labels.missed
        return to_mend / (1 + to_mend)
    return (max(doubts) + sum(doubts) / len(doubts)) / 2 if doubts else 1.0
