"""What a labeller has finished, told a few times in a block of images instead of after each."""

from __future__ import annotations

import time
from collections.abc import Callable

from data_jobs.labelling.ledger import Done

TELL_EVERY_S = 1.0
"""As often as anybody looks at the progress."""


class Finished:
    """Collects finished images for `tell`, which gets their ids and what was done."""

    def __init__(self, tell: Callable[[list[str], Done], None], every_s: float = TELL_EVERY_S) -> None:
        self._tell, self._every_s = tell, every_s
        self._told = time.monotonic()
        self._image_ids: list[str] = []
        self._done = Done()

    def add(self, image_ids: list[str], done: Done) -> None:
        """Count images; tells of all that it has if it has not for a while."""
        self._image_ids += image_ids
        self._done += done
        if time.monotonic() - self._told >= self._every_s:
            self.tell()

    def tell(self) -> None:
        """Tell of what has not been told."""
        if self._image_ids:
            self._tell(self._image_ids, self._done)
        self._told, self._image_ids, self._done = time.monotonic(), [], Done()
