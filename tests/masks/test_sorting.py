"""Sorting by digits is sorting."""

from __future__ import annotations

import numpy as np
import pytest

from everymask.masks.sorting import integer_order, sorted_integers


@pytest.mark.parametrize("most", [1, 2**16 - 1, 2**16, 2**31, 2**33, 2**62])
def test_the_order_is_that_of_a_stable_sort(most: int) -> None:
    values = np.random.default_rng(0).integers(0, most, 999, endpoint=True)
    values[::7] = values[0]
    np.testing.assert_array_equal(integer_order(values), np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(sorted_integers(values), np.sort(values))


def test_nothing_is_sorted_to_nothing() -> None:
    assert sorted_integers(np.zeros(0, dtype=np.int64)).size == 0
