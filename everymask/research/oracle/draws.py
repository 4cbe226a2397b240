"""Random numbers that depend only on their keys, so that answers do not depend on batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def uniform(seed: int, *keys: IntArray | int) -> FloatArray:
    """Numbers in (0, 1), one per row of keys that broadcast to (N,): splitmix64 over the keys."""
    state = np.full(np.broadcast_shapes(*(np.shape(key) for key in keys)), seed, dtype=np.int64).view(np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = state ^ np.asarray(key, dtype=np.int64).astype(np.uint64)
            state = state + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return ((state >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53


def normal(seed: int, *keys: IntArray | int) -> FloatArray:
    """Standard normal numbers, one per row of keys."""
    return np.asarray(ndtri(uniform(seed, *keys)))
