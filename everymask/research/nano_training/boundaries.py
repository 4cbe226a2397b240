"""The boundary head's targets: where annotators drew borders, and where nobody can tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from everymask.evaluation.ground_truth import UNLABELLED, AnnotatedPicture

UNKNOWN = -1.0
"""Target of pixels without an answer."""
_JUDGED_MARGIN_PX = 4
"""Width around instances in which an incompletely annotated picture is trusted to hold no other border."""
_CONSENSUS_GAIN = 1.5
"""Gain that makes a border drawn by two in three annotators certain, as they disagree on detail (our choice)."""


def boundary_target(picture: AnnotatedPicture) -> NDArray[np.float32]:
    """(H/2, W/2) share in [0, 1] of annotators with a border there, or `UNKNOWN`. H and W must be even."""
    height, width = picture.image.shape[:2]
    if not picture.sharp:
        return np.full((height // 2, width // 2), UNKNOWN, dtype=np.float32)
    share = np.zeros((height, width), dtype=np.float32)
    known = np.zeros((height, width), dtype=bool)
    for labels in picture.label_maps:
        border = _borders(labels)
        share += border / len(picture.label_maps)
        labelled = labels != UNLABELLED
        if not picture.complete:
            labelled = ndimage.binary_dilation(labelled, iterations=_JUDGED_MARGIN_PX)
        known |= labelled | border
    if len(picture.label_maps) > 1:
        share = np.minimum(1, share * _CONSENSUS_GAIN)
    blocks = (height // 2, 2, width // 2, 2)
    return np.where(known.reshape(blocks).any(axis=(1, 3)), share.reshape(blocks).max(axis=(1, 3)), UNKNOWN).astype(
        np.float32
    )


def _borders(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Both pixels of each pair of neighbours with different labels."""
    border = np.zeros(labels.shape, dtype=bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    return border
