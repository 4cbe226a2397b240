"""The images being labelled right now, kept outside the workers so that the list survives their deaths."""

from __future__ import annotations

from typing import Any, Protocol

import ray

MAX_STARTS = 3
"""An image whose worker died this often is given up (our choice)."""


class Ledger:
    """Counts starts of unfinished images, and finished images for the progress line. Run as an actor.

    An image that kills its process (a crash in native code, all memory used) takes innocent neighbours with it. After a
    death its batch is repeated one by one, and each start is recorded first: the last one recorded is guilty. Memory is
    bounded by the images in work.
    """

    def __init__(self) -> None:
        self._starts: dict[str, int] = {}
        self._finished = 0
        self._errors = 0

    def begin_batch(self, image_ids: list[str]) -> list[int]:
        """Record new images as started together; return each image's earlier starts, 0 for new ones."""
        before = [self._starts.get(image_id, 0) for image_id in image_ids]
        for image_id, starts in zip(image_ids, before, strict=True):
            if starts == 0:
                self._starts[image_id] = 1
        return before

    def begin_alone(self, image_id: str) -> None:
        """Record one more start of an image, which now runs by itself."""
        self._starts[image_id] = self._starts.get(image_id, 0) + 1

    def finish(self, image_ids: list[str], errors: int) -> None:
        """Forget and count finished images. Given-up ones stay known in case their block is redone."""
        for image_id in image_ids:
            if self._starts.get(image_id, 0) < MAX_STARTS:
                self._starts.pop(image_id, None)
        self._finished += len(image_ids)
        self._errors += errors

    def progress(self) -> tuple[int, int]:
        """(images finished, errors among them) since the start; images of a redone block count again."""
        return self._finished, self._errors


class Bookkeeper(Protocol):
    """A labeller's reports on its work; a `Ledger` on the far side."""

    def begin_batch(self, image_ids: list[str]) -> list[int]: ...
    def begin_alone(self, image_id: str) -> None: ...
    def finish(self, image_ids: list[str], errors: int) -> None: ...


class RemoteLedger:
    """A worker's view of the ledger. It waits for starts to be recorded, but not for ends."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def begin_batch(self, image_ids: list[str]) -> list[int]:
        starts: list[int] = ray.get(self._actor.begin_batch.remote(image_ids))
        return starts

    def begin_alone(self, image_id: str) -> None:
        ray.get(self._actor.begin_alone.remote(image_id))

    def finish(self, image_ids: list[str], errors: int) -> None:
        self._actor.finish.remote(image_ids, errors)
