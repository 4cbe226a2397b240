from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from everymask.evaluation.agreement import mask_agreement
from everymask.masks.rle import encode_masks


def row(*pixels: Any) -> NDArray[np.bool_]:
    mask = np.zeros((1, 10), dtype=np.bool_)
    mask[0, list(pixels)] = True
    return mask


def test_the_best_pairs_are_matched_first_and_each_mask_once() -> None:
    reference = encode_masks(np.stack([row(0, 1, 2, 3), row(5, 6), row(9)]))
    candidate = encode_masks(np.stack([row(0, 1, 2), row(0, 1, 2, 3), row(5)]))
    agreement = mask_agreement(candidate, reference)
    assert agreement.iou.tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert agreement.share(0.99) == pytest.approx(1 / 3)
    assert agreement.mean_iou == pytest.approx(0.5)


def test_masks_beyond_the_reference_lower_the_agreement() -> None:
    one = encode_masks(np.stack([row(0, 1)]))
    two = encode_masks(np.stack([row(0, 1), row(7)]))
    agreement = mask_agreement(two, one)
    assert (agreement.references, agreement.candidates) == (1, 2)
    assert agreement.share(0.99) == 0.5


def test_runs_without_a_mask() -> None:
    one = encode_masks(np.stack([row(0)]))
    assert mask_agreement([], []).mean_iou == 1.0
    assert mask_agreement(one, []).share(0.5) == 0.0
    assert mask_agreement([], one).share(0.5) == 0.0
