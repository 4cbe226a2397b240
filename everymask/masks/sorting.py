"""Sorting of many non-negative integers by their 16-bit digits.

NumPy sorts 16-bit integers by counting, in linear time. Its sort of 64-bit ones takes several times as long,
most of all on processors whose vector instructions for it are slow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_DIGIT_BITS = 16


def integer_order(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """`np.argsort(values, kind="stable")` of (N,) non-negative values."""
    most = int(values.max(initial=0))
    order = np.argsort(values.astype(np.uint16), kind="stable")
    for shift in range(_DIGIT_BITS, most.bit_length(), _DIGIT_BITS):
        digits = (values >> shift).astype(np.uint16)
        order = order[np.argsort(digits[order], kind="stable")]
    return order


def sorted_integers(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """`np.sort(values)` of (N,) non-negative values."""
    return values[integer_order(values)]
