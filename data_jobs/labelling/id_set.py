"""Which of millions of image ids were seen, in 24 bytes each: a dict of them would take eight times as much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.labels.id_digests import id_digests

Level = NDArray[np.uint64]
"""(3, N): first and second half of the digest, and the value; ascending in the first half."""


class IdSet:
    """A set of image ids, each known by a 128-bit digest, each with a 64-bit value.

    Sorted runs are merged as they grow alike, so that adding and finding stay fast and vectorised.
    """

    def __init__(self) -> None:
        self._levels: list[Level] = []

    def __len__(self) -> int:
        return sum(level.shape[1] for level in self._levels)

    def __contains__(self, image_id: str) -> bool:
        return bool(self.find([image_id])[0][0])

    def find(self, image_ids: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """(N,) whether each id is in the set, and (N,) its value, 0 where it is not."""
        first, second = id_digests(image_ids)
        found = np.zeros(len(image_ids), dtype=np.bool_)
        values = np.zeros(len(image_ids), dtype=np.uint64)
        for level in self._levels:
            start = np.searchsorted(level[0], first)
            # Two ids may share one half of their digests; three among any number of images do not happen.
            for position in (start, start + 1):
                position = np.minimum(position, level.shape[1] - 1)
                hit = (level[0, position] == first) & (level[1, position] == second)
                found |= hit
                values[hit] = level[2, position[hit]]
        return found, values

    def add(self, image_id: str) -> None:
        """Add one id that is not in the set; for many, `add_all` is far faster."""
        self.add_all([image_id])

    def add_all(self, image_ids: Sequence[str], values: NDArray[np.uint64] | None = None) -> None:
        """Add ids that are neither in the set nor twice among themselves; their values are 0 unless given."""
        if not image_ids:
            return
        zeros = np.zeros(len(image_ids), dtype=np.uint64)
        self._levels.append(_sorted(np.stack([*id_digests(image_ids), zeros if values is None else values])))
        while len(self._levels) > 1 and self._levels[-2].shape[1] <= self._levels[-1].shape[1]:
            last = self._levels.pop()
            self._levels.append(_sorted(np.concatenate([self._levels.pop(), last], axis=1)))


def _sorted(level: Level) -> Level:
    return level[:, np.argsort(level[0], kind="stable")]
