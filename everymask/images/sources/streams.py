"""Unpacked streams of packed files, left open so that the next read goes on where the last one ended."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import IO


class OpenStreams:
    """Some streams that nobody reads at the moment; safe among threads.

    Args:
        most: streams that stay open; then the one that waits longest is let go.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: list[tuple[Hashable, IO[bytes]]] = []
        self._lock = threading.Lock()

    def take(self, key: Hashable, position: int) -> IO[bytes] | None:
        """A stream of this file that has not passed the position, the farthest of them; None if there is none.

        `key` is what is another if the file's content is.
        """
        with self._lock:
            fitting = [
                index
                for index, (other, stream) in enumerate(self._waiting)
                if other == key and stream.tell() <= position
            ]
            if not fitting:
                return None
            return self._waiting.pop(max(fitting, key=lambda index: self._waiting[index][1].tell()))[1]

    def keep(self, key: Hashable, stream: IO[bytes]) -> None:
        """Leave a stream to whoever reads on."""
        with self._lock:
            self._waiting.append((key, stream))
            del self._waiting[: -self._most]
