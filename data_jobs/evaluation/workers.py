"""Labels annotated pictures in several processes, with a progress line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar, cast

import ray
import torch

from data_jobs.runtime.actors import connect
from data_jobs.runtime.progress import ProgressLine
from everymask.backbone.devices import device_for

Picture = TypeVar("Picture")
Answer = TypeVar("Answer", covariant=True)
Asked = TypeVar("Asked", contravariant=True)


class PictureLabeller(Protocol[Asked, Answer]):
    """Labels pictures. Picklable; loads weights where it runs."""

    @property
    def device(self) -> str:
        """auto, cpu, cuda or cuda:N; cpu if it runs no model."""

    def on(self, device: str) -> Self:
        """The same labeller on another device."""

    def load(self) -> Any:
        """Load what labelling needs."""

    def label(self, loaded: Any, picture: Asked) -> Answer:
        """The answer for one picture."""


class _Worker(Generic[Asked, Answer]):
    def __init__(self, labeller: PictureLabeller[Asked, Answer]) -> None:
        torch.set_num_threads(1)
        self._labeller = labeller
        self._loaded = labeller.load()

    def label(self, picture: Asked) -> Answer:
        return self._labeller.label(self._loaded, picture)


def label_pictures(
    labeller: PictureLabeller[Picture, Answer], pictures: Sequence[Picture], workers: int | None
) -> Iterator[Answer]:
    """The answers for all pictures, in the order in which they finish.

    `workers` is the number of processes; 1 labels in this one, without Ray; None means one per GPU, else per CPU core.
    """
    progress = ProgressLine(len(pictures))
    progress.update(0, 0)
    answers = _in_this_process(labeller, pictures) if workers == 1 else _by_workers(labeller, pictures, workers)
    for finished, answer in enumerate(answers, start=1):
        progress.update(finished, 0)
        yield answer
    progress.close()


def _in_this_process(labeller: PictureLabeller[Picture, Answer], pictures: Sequence[Picture]) -> Iterator[Answer]:
    yield from map(_Worker(labeller).label, pictures)


def _by_workers(
    labeller: PictureLabeller[Picture, Answer], pictures: Sequence[Picture], workers: int | None
) -> Iterator[Answer]:
    """Ray actors label one picture at a time; the first to finish gets the next one."""
    connect()
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = 0 if labeller.device == "cpu" else int(resources.get("GPU", 0))
    # `connect` gives a cluster of its own two CPUs more than there are cores.
    wanted = workers or gpus or max(1, int(resources.get("CPU", 1)) - 2)
    count = min(wanted, len(pictures))
    share = {"num_cpus": 1.0, "num_gpus": min(1.0, gpus / count)}
    labeller = labeller.on(device_for(labeller.device, share["num_gpus"]))
    actor = cast(Any, ray.remote(**share)(_Worker))  # type: ignore[call-overload]  # Ray's hints want literal options
    actors = [actor.remote(labeller) for _ in range(count)]
    waiting = list(reversed(pictures))
    busy = {one.label.remote(waiting.pop()): one for one in actors}
    while busy:
        done, _ = ray.wait(list(busy), num_returns=1)
        free = busy.pop(done[0])
        if waiting:
            busy[free.label.remote(waiting.pop())] = free
        yield ray.get(done[0])
