"""What is being labelled right now, and what the run has done and spent: kept outside the workers, whose deaths it
survives."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray

MAX_STARTS = 3
"""An image whose worker died this often is given up (our choice)."""
MEMORY_COUNTS_S = 600.0
"""A worker that says nothing for so long is taken for gone, and its memory with it."""


@dataclass(frozen=True)
class Done:
    """What a labeller reports of finished images.

    Attributes:
        errors: the kind of each that failed (`everymask.labels.overview.error_kind`).
        masks: found in all of them.
        file_bytes: of their files.
        seconds: by stage, as in `Progress`.
    """

    errors: list[str] = field(default_factory=list)
    masks: int = 0
    file_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __add__(self, other: Done) -> Done:
        return Done(
            [*self.errors, *other.errors],
            self.masks + other.masks,
            self.file_bytes + other.file_bytes,
            {
                stage: self.seconds.get(stage, 0.0) + other.seconds.get(stage, 0.0)
                for stage in self.seconds | other.seconds
            },
        )


@dataclass(frozen=True)
class Memory:
    """Memory that a worker holds for its model: of the GPU, or of its process on the CPU."""

    worker: str
    device: str
    held_bytes: int


@dataclass(frozen=True)
class Progress:
    """What has been done since a ledger began; images of a redone block count again.

    Attributes:
        images: finished, errors included.
        in_work: given to labellers and not finished.
        errors: failed images by kind.
        masks: found.
        file_bytes: of finished images.
        seconds: by stage, summed over workers. The stages are `read`, those of
            `everymask.labelling.turns.StageSeconds`, and `write`; `worker` is the time that labellers were there.
        memory_bytes: of the workers that are there, by device.
    """

    images: int = 0
    in_work: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)
    masks: int = 0
    file_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    memory_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Images that failed."""
        return sum(self.errors.values())


class Ledger:
    """Counts starts of unfinished images, and what is finished and spent. Run as an actor.

    An image that kills its process (a crash in native code, all memory used) takes innocent neighbours with it. After a
    death its batch is repeated one by one, and each start is recorded first: the last one recorded is guilty. Memory is
    bounded by the images in work.
    """

    def __init__(self) -> None:
        self._starts: dict[str, int] = {}
        self._given_up: set[str] = set()
        self._images = self._masks = self._file_bytes = 0
        self._errors: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}
        self._memory: dict[str, tuple[float, Memory]] = {}

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

    def finish(self, image_ids: list[str], done: Done, memory: Memory | None = None) -> None:
        """Forget and count finished images. Given-up ones stay known in case their block is redone."""
        for image_id in image_ids:
            if self._starts.get(image_id, 0) < MAX_STARTS:
                self._starts.pop(image_id, None)
            else:
                self._given_up.add(image_id)
        self._images += len(image_ids)
        self._masks += done.masks
        self._file_bytes += done.file_bytes
        self._errors.update(done.errors)
        self.spend(done.seconds)
        if memory is not None:
            self._memory[memory.worker] = time.monotonic(), memory

    def spend(self, seconds: Mapping[str, float]) -> None:
        """Count seconds of stages."""
        for stage, spent in seconds.items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + spent

    def settle(self) -> None:
        """Answers once all that its caller reported before has been counted."""

    def progress(self) -> Progress:
        """What has been done since the start."""
        now = time.monotonic()
        held: Counter[str] = Counter()
        for heard, memory in self._memory.values():
            if now - heard < MEMORY_COUNTS_S:
                held[memory.device] += memory.held_bytes
        in_work = len(self._starts.keys() - self._given_up)
        return Progress(
            self._images, in_work, dict(self._errors), self._masks, self._file_bytes, dict(self._seconds), dict(held)
        )


class Bookkeeper(Protocol):
    """The workers' reports on their work; a `Ledger` on the far side."""

    def begin_batch(self, image_ids: list[str]) -> list[int]: ...
    def begin_alone(self, image_id: str) -> None: ...
    def finish(self, image_ids: list[str], done: Done, memory: Memory | None = None) -> None: ...
    def spend(self, seconds: Mapping[str, float]) -> None: ...
    def settle(self) -> None: ...


class RemoteLedger:
    """A worker's view of the ledger. It waits for starts and times to be recorded, but not for ends.

    A call takes a millisecond of the ledger, which all workers share: hundreds of images a second have one for each
    batch, not for each image.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def begin_batch(self, image_ids: list[str]) -> list[int]:
        starts: list[int] = ray.get(self._actor.begin_batch.remote(image_ids))
        return starts

    def begin_alone(self, image_id: str) -> None:
        ray.get(self._actor.begin_alone.remote(image_id))

    def finish(self, image_ids: list[str], done: Done, memory: Memory | None = None) -> None:
        self._actor.finish.remote(image_ids, done, memory)

    def spend(self, seconds: Mapping[str, float]) -> None:
        ray.get(self._actor.spend.remote(seconds))

    def settle(self) -> None:
        ray.get(self._actor.settle.remote())


@contextmanager
def timed(ledger: Bookkeeper, stage: str) -> Iterator[None]:
    """Time a block, whether it succeeds or not, and have it counted before the block's result is seen."""
    began = time.perf_counter()
    try:
        yield
    finally:
        ledger.spend({stage: time.perf_counter() - began})
