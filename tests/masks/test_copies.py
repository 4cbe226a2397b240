"""Copies of masks that files give back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from everymask.masks.labelled import rle_of_copy
from everymask.masks.rle import decode_mask
from everymask.masks.runs import crop_of
from tests.labels.examples import mask_record
from tests.masks.strategies import masks


@given(masks(), st.integers(0, 30))
def test_a_copy_is_encoded_as_it_is_whether_it_changed_or_not(mask: NDArray[np.bool_], place: int) -> None:
    if not mask.any():
        return
    record = mask_record(mask, 0.5)
    for changed in (False, True):
        copy = mask.copy()
        copy.flat[place % copy.size] ^= changed
        np.testing.assert_array_equal(
            decode_mask(rle_of_copy(copy, (0, 0), record, crop_of(record.rle, record.box_xyxy))), copy
        )


def test_a_crop_at_another_corner_is_another_mask() -> None:
    mask = np.zeros((9, 12), dtype=np.bool_)
    mask[2:5, 3:8] = True
    record = mask_record(mask, 0.5)
    own, crop = mask[2:5, 3:8], mask[1:6, 3:9]
    assert rle_of_copy(crop, (3, 1), record, own) == record.rle
    moved = decode_mask(rle_of_copy(crop, (4, 1), record, own))
    np.testing.assert_array_equal(moved, np.roll(mask, 1, axis=1))
    with pytest.raises(ValueError, match="reaches beyond"):
        rle_of_copy(np.ones((9, 12), dtype=np.bool_), (1, 0), record, own)
