"""Masks for property tests: arbitrary small ones, and the standing cases every mask operation has to get right."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray


def masks(max_side: int = 9) -> st.SearchStrategy[NDArray[np.bool_]]:
    """One (H, W) bool mask, 1 to `max_side` pixels a side."""
    return hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=max_side))


def mask_stacks(max_count: int = 5, max_side: int = 7) -> st.SearchStrategy[NDArray[np.bool_]]:
    """(N, H, W) bool, N from 0."""
    shapes = st.tuples(st.integers(0, max_count), st.integers(1, max_side), st.integers(1, max_side))
    return shapes.flatmap(lambda shape: hnp.arrays(np.bool_, shape))


def _standing_cases() -> dict[str, NDArray[np.bool_]]:
    empty = np.zeros((5, 8), dtype=np.bool_)
    one_pixel = empty.copy()
    one_pixel[2, 3] = True
    hole = empty.copy()
    hole[1:4, 1:6] = True
    hole[2, 2:4] = False
    border = empty.copy()
    border[0, :] = border[:, -1] = True
    diagonal = np.eye(4, 4, dtype=np.bool_)
    two_parts = empty.copy()
    two_parts[0, 0] = two_parts[3:, 5:] = True
    nested = np.ones((7, 9), dtype=np.bool_)
    nested[1:6, 1:8] = False
    nested[3, 3:6] = True
    return {
        "empty": empty,
        "full": np.ones((4, 6), dtype=np.bool_),
        "one pixel": one_pixel,
        "hole": hole,
        "border touch": border,
        "diagonal touch": diagonal,
        "other diagonal": diagonal[:, ::-1].copy(),
        "two parts": two_parts,
        "part in a hole": nested,
        "one by one": np.ones((1, 1), dtype=np.bool_),
        "one row": np.array([[True, False, True, True]]),
        "one column": np.array([[False], [True], [True]]),
    }


STANDING_CASES = _standing_cases()
