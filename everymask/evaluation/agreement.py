"""How far two runs over the same image gave the same masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everymask.masks.rle import rle_ious
from everymask.records import Rle


@dataclass(frozen=True)
class Agreement:
    """Masks of one run matched one to one with those of a reference run.

    Attributes:
        iou: (R,) float64 in [0, 1], for each reference mask the IoU with its match; 0 for one without.
        candidates: masks of the other run.
    """

    iou: NDArray[np.float64]
    candidates: int

    @property
    def references(self) -> int:
        """R, masks of the reference run."""
        return int(self.iou.size)

    def share(self, iou_thresh: float) -> float:
        """Matches of at least this IoU as a share of the larger run, in [0, 1]; 1 when neither run has a mask."""
        most = max(self.references, self.candidates)
        return float((self.iou >= iou_thresh).sum()) / most if most else 1.0

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the larger run, what has no match counting 0; 1 when neither run has a mask."""
        most = max(self.references, self.candidates)
        return float(self.iou.sum()) / most if most else 1.0


def mask_agreement(candidate: Sequence[Rle], reference: Sequence[Rle]) -> Agreement:
    """Match the masks of one image from two runs, the pair with the highest IoU first."""
    iou = rle_ious(reference, candidate)
    matched = np.zeros(len(reference))
    rows, columns = np.nonzero(iou)
    values = iou[rows, columns]
    row_free, column_free = np.ones(len(reference), dtype=np.bool_), np.ones(len(candidate), dtype=np.bool_)
    for pair in np.argsort(-values, kind="stable"):
        row, column = rows[pair], columns[pair]
        if row_free[row] and column_free[column]:
            matched[row] = values[pair]
            row_free[row] = column_free[column] = False
    return Agreement(matched, len(candidate))
