"""A set of many millions of image ids: the last ones in memory, all others in sorted runs on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everymask.labels.id_digests import id_digests

Level = NDArray[np.uint64]
"""(3, N): first and second half of the digest, and the value; ascending in the first half."""

IN_MEMORY = 2**20
"""More ids than this go to disk."""
_FILTER_BITS, _FILTER_HASHES = 16, 4


class IdSet:
    """A set of image ids, each known by a 128-bit digest, each with a 64-bit value.

    Sorted levels of similar size are merged, so that adding and finding stay fast and vectorised. An id takes 24 bytes
    in memory; on disk, in the folder for temporary files, 24 bytes and two in memory.

    Args:
        in_memory: number of ids that make a run on disk.
    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._levels: list[Level] = []
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return int(sum(level.shape[1] for level in self._levels) + sum(run.ids for run in self._runs))

    def __contains__(self, image_id: str) -> bool:
        return bool(self.find([image_id])[0][0])

    def find(self, image_ids: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """(N,) whether each id is in the set, and (N,) its value, 0 if it is not."""
        first, second = id_digests(image_ids)
        found = np.zeros(len(image_ids), dtype=np.bool_)
        values = np.zeros(len(image_ids), dtype=np.uint64)
        for level in self._levels:
            _find(level, first, second, np.arange(len(image_ids)), found, values)
        for run in self._runs:
            if found.all():
                break
            if (maybe := np.flatnonzero(run.may_have(first, second) & ~found)).size:
                _find(run.level(), first, second, maybe, found, values)
                if found[maybe].all():  # listings come in one order: the next ids are likely here, too
                    self._runs = [run, *(other for other in self._runs if other is not run)]
        return found, values

    def add(self, image_id: str) -> None:
        """Add one id that is not in the set; for many, `add_all` is far faster."""
        self.add_all([image_id])

    def add_all(self, image_ids: Sequence[str], values: NDArray[np.uint64] | None = None) -> None:
        """Add distinct ids that are not in the set; their values are 0 unless given."""
        if not image_ids:
            return
        zeros = np.zeros(len(image_ids), dtype=np.uint64)
        self._levels.append(_sorted(np.stack([*id_digests(image_ids), zeros if values is None else values])))
        while len(self._levels) > 1 and self._levels[-2].shape[1] <= self._levels[-1].shape[1]:
            last = self._levels.pop()
            self._levels.append(_sorted(np.concatenate([self._levels.pop(), last], axis=1)))
        if sum(level.shape[1] for level in self._levels) >= self._in_memory:
            self._runs.append(_Run(_sorted(np.concatenate(self._levels, axis=1))))
            self._levels.clear()


class _Run:
    """A level on disk, and a filter in memory of the ids that it cannot have (Bloom, 1970)."""

    def __init__(self, level: Level) -> None:
        self.ids: int = level.shape[1]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as this does, and has no name
        self._file.write(level.data)
        self._file.flush()
        self._shift = np.uint64(64 - (_FILTER_BITS * self.ids - 1).bit_length())
        bits = np.zeros(1 << (64 - int(self._shift)), dtype=np.bool_)
        for position in self._positions(level[0], level[1]):
            bits[position] = True
        self._filter = np.packbits(bits)

    def may_have(self, first: NDArray[np.uint64], second: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(N,) whether each id may be in the run; almost always False for absent ones."""
        answer = np.ones(len(first), dtype=np.bool_)
        for position in self._positions(first, second):
            answer &= (self._filter[position >> np.uint64(3)] << (position & np.uint64(7)).astype(np.uint8)) & 128 != 0
        return answer

    def level(self) -> Level:
        """The run on disk; its pages count as this process's memory only while it is held."""
        return np.memmap(self._file, dtype=np.uint64, mode="r", shape=(3, self.ids))

    def _positions(self, first: NDArray[np.uint64], second: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
        return [(first + np.uint64(number) * second) >> self._shift for number in range(_FILTER_HASHES)]


def _find(
    level: Level,
    first: NDArray[np.uint64],
    second: NDArray[np.uint64],
    asked: NDArray[np.int64],
    found: NDArray[np.bool_],
    values: NDArray[np.uint64],
) -> None:
    """Look for the ids at positions `asked` in a level, and record those found with their values."""
    start = np.searchsorted(level[0], first[asked])
    # Two ids may share one half of their digests; three among any number of images do not happen.
    for position in (start, start + 1):
        position = np.minimum(position, level.shape[1] - 1)
        hit = (level[0, position] == first[asked]) & (level[1, position] == second[asked])
        found[asked[hit]] = True
        values[asked[hit]] = level[2, position[hit]]


def _sorted(level: Level) -> Level:
    return np.ascontiguousarray(level[:, np.argsort(level[0], kind="stable")])
