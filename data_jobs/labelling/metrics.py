"""What a run tells Prometheus, by Ray's metrics: the driver tells all of it, because it outlives every worker.

A counter of a process that ends between two reports would lose what it counted last, and each new process would be a
series of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.util.metrics import Counter, Gauge

from data_jobs.labelling.ledger import Progress
from everymask import metrics
from everymask.metrics import Metric

_NOT_STAGES = {"device": metrics.JOB_DEVICE_SECONDS, "worker": metrics.JOB_WORKER_SECONDS}
_MAX_KINDS = 20


class JobMetrics:
    """`everymask.metrics.JOB` of this process."""

    def __init__(self) -> None:
        kinds: Mapping[str, Any] = {"counter": Counter, "gauge": Gauge}
        self._by_name = {
            metric.name: kinds[metric.kind](metric.name, metric.description, metric.tags) for metric in metrics.JOB
        }
        self._before = Progress()
        self._kinds: set[str] = set()
        self._devices: set[str] = set()

    def begin(self) -> None:
        """A new ledger counts from zero."""
        self._before = Progress()

    def progressed(self, now: Progress, waiting: int) -> None:
        """Count what was done since the last call.

        Args:
            now: of the ledger.
            waiting: images that are listed and not begun.
        """
        before = self._before if now.images >= self._before.images else Progress()  # a ledger that was restarted
        self._before = now
        self._count(metrics.JOB_IMAGES, now.images - before.images)
        self._count(metrics.JOB_MASKS, now.masks - before.masks)
        self._count(metrics.JOB_FILE_BYTES, now.file_bytes - before.file_bytes)
        for kind, images in now.errors.items():
            self._count(metrics.JOB_ERRORS, images - before.errors.get(kind, 0), error=self._bounded(kind))
        for stage, seconds in now.seconds.items():
            more = seconds - before.seconds.get(stage, 0.0)
            if stage in _NOT_STAGES:
                self._count(_NOT_STAGES[stage], more)
            else:
                self._count(metrics.JOB_STAGE_SECONDS, more, stage=stage)
        self._devices |= now.memory_bytes.keys()
        for device in self._devices:
            self._set(metrics.JOB_MEMORY_BYTES, now.memory_bytes.get(device, 0), device=device)
        self._set(metrics.JOB_IN_WORK, now.in_work)
        self._set(metrics.JOB_WAITING, waiting)

    def part_written(self) -> None:
        self._count(metrics.JOB_PARTS, 1)

    def shard_sealed(self) -> None:
        self._count(metrics.JOB_SHARDS_SEALED, 1)

    def _bounded(self, kind: str) -> str:
        """Each kind is a series, which Prometheus keeps for good."""
        if len(self._kinds) < _MAX_KINDS:
            self._kinds.add(kind)
        return kind if kind in self._kinds else "other"

    def _count(self, metric: Metric, more: float, **tags: str) -> None:
        if more > 0:  # Ray refuses to count nothing
            self._by_name[metric.name].inc(more, tags)

    def _set(self, metric: Metric, value: float, **tags: str) -> None:
        self._by_name[metric.name].set(value, tags)
