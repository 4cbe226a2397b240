"""Pieces of a file kept on disk, because they arrive in another order than they are needed."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PLACES = ".places.npy"


class Spool:
    """Numbered pieces of bytes, added in any order. Memory: 24 bytes a piece.

    `path` is a scratch file; `end` writes the pieces' places beside it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._stream = path.open("wb")
        self._places = array("q")
        self._end = 0

    def add(self, number: int, piece: bytes) -> None:
        self._stream.write(piece)
        self._places.extend((number, self._end, len(piece)))
        self._end += len(piece)

    def end(self) -> None:
        """Flush everything to disk."""
        self._stream.close()
        np.save(f"{self.path}{_PLACES}", np.frombuffer(self._places, dtype=np.int64).reshape(-1, 3))


def pieces(paths: Sequence[Path], numbers: range | None = None) -> Iterator[bytes]:
    """The pieces of some spools by ascending number; only those in `numbers` if given."""
    places, files = _places(paths)
    if numbers is not None:
        inside = (places[:, 0] >= numbers.start) & (places[:, 0] < numbers.stop)
        places, files = places[inside], files[inside]
    streams = [path.open("rb") for path in paths]
    try:
        for place in np.argsort(places[:, 0], kind="stable"):
            stream = streams[files[place]]
            stream.seek(places[place, 1])
            yield stream.read(places[place, 2])
    finally:
        for stream in streams:
            stream.close()


def cut_by_size(paths: Sequence[Path], most_bytes: int) -> Iterator[range]:
    """Ranges of numbers whose pieces total at most `most_bytes`, or that hold a single number."""
    places, _ = _places(paths)
    places = places[np.argsort(places[:, 0], kind="stable")]
    numbers, first = np.unique(places[:, 0], return_index=True)
    sizes = np.add.reduceat(places[:, 2], first) if len(numbers) else numbers
    start = filled = 0
    for place, size in enumerate(sizes.tolist()):
        if place > start and filled + size > most_bytes:
            yield range(int(numbers[start]), int(numbers[place]))
            start, filled = place, 0
        filled += size
    if len(numbers):
        yield range(int(numbers[start]), int(numbers[-1]) + 1)


def _places(paths: Sequence[Path]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N, 3) number, first byte and length of every piece, and (N,) the index of its file."""
    found = [np.load(f"{path}{_PLACES}") for path in paths]
    files = np.repeat(np.arange(len(found)), [len(places) for places in found])
    return np.concatenate([*found, np.zeros((0, 3), dtype=np.int64)]), files
