"""Image ids as numbers, for comparing sets of a hundred million of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BYTES = 16


def id_digests(image_ids: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(N,) first and (N,) second half of each id's 128-bit digest."""
    joined = b"".join(hashlib.blake2b(name.encode(), digest_size=_BYTES).digest() for name in image_ids)
    halves = np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2)
    return halves[:, 0], halves[:, 1]
