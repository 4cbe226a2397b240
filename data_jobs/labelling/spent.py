"""Where a worker's time went, by stage: kept in its process, for whoever shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class SpentSeconds:
    """Seconds by stage, added up until they are taken. Stages run in threads, and overlap.

    The stages of a run are `read`, those of `everymask.labelling.turns.StageSeconds`, and `write`; `busy` is how long a
    worker had images in work, so that `device` / `busy` is the share of the time that its GPU computed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._images = 0

    def add(self, seconds: Mapping[str, float], images: int = 0) -> None:
        """Count what some images took."""
        with self._lock:
            self._images += images
            for stage, spent in seconds.items():
                self._seconds[stage] = self._seconds.get(stage, 0.0) + spent

    @contextmanager
    def timed(self, stage: str, images: int = 0) -> Iterator[None]:
        """Time a block, whether it succeeds or not."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - began}, images)

    def take(self) -> tuple[int, dict[str, float]]:
        """Images labelled, and seconds by stage, since the last time."""
        with self._lock:
            images, seconds = self._images, dict(self._seconds)
            self._images = 0
            self._seconds.clear()
        return images, seconds


SPENT = SpentSeconds()
"""Of this process."""


class BusyClock:
    """Divides the time in which a worker is busy among what it finishes, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted_until = 0.0

    def now(self) -> float:
        """The time, to be given to `since`."""
        return time.perf_counter()

    def since(self, began: float) -> float:
        """Seconds that something which began then, and is finished now, added to the busy time."""
        with self._lock:
            finished = time.perf_counter()
            seconds = finished - max(began, self._counted_until)
            self._counted_until = finished
        return seconds
