"""A worker's time by stage, kept in its process until somebody takes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class SpentSeconds:
    """Seconds by stage, summed until they are taken. Stages run in threads, and overlap.

    The stages of a run are `read`, those of `everymask.labelling.turns.StageSeconds`, and `write`; `busy` is the time
    with images in work, so `device` / `busy` is the share of time that the GPU computed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._images = 0

    def add(self, seconds: Mapping[str, float], images: int = 0) -> None:
        """Count the seconds of some images."""
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
        """Images labelled and seconds by stage since the last call."""
        with self._lock:
            images, seconds = self._images, dict(self._seconds)
            self._images = 0
            self._seconds.clear()
        return images, seconds


SPENT = SpentSeconds()
"""This process's seconds."""


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
