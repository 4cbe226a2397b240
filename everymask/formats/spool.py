"""Pieces of a file that come in one order and are wanted in another, kept on disk in between."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np


class Spool:
    """Numbered pieces of bytes: added in any order, read in order of their numbers. Memory: 24 bytes a piece.

    Args:
        path: a scratch file; it goes with the folder it is in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = path.open("wb")
        self._places = array("q")
        self._end = 0

    def add(self, number: int, piece: bytes) -> None:
        """Keep a piece."""
        self._stream.write(piece)
        self._places.extend((number, self._end, len(piece)))
        self._end += len(piece)

    def pieces(self) -> Iterator[bytes]:
        """Every piece, by ascending number. The spool is empty and its file gone afterwards."""
        self._stream.close()
        places = np.frombuffer(self._places, dtype=np.int64).reshape(-1, 3)
        with self._path.open("rb") as stream:
            for _, start, length in places[np.argsort(places[:, 0], kind="stable")]:
                stream.seek(start)
                yield stream.read(length)
        self._path.unlink()
