"""Clocks of a labeller, which several threads may read."""

from __future__ import annotations

import threading
import time


class BusyClock:
    """Divides a worker's busy time among the images that it finishes one after another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted_until = 0.0

    def now(self) -> float:
        """The time, for `since`."""
        return time.perf_counter()

    def since(self, began: float) -> float:
        """Seconds that work which began then and ends now added to the busy time."""
        with self._lock:
            finished = time.perf_counter()
            seconds = finished - max(began, self._counted_until)
            self._counted_until = finished
        return seconds


class WallClock:
    """Divides all time since its start among those who ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted_until = time.perf_counter()

    def lap(self) -> float:
        """Seconds since anybody asked last, or since the start."""
        with self._lock:
            now = time.perf_counter()
            seconds, self._counted_until = now - self._counted_until, now
        return seconds
