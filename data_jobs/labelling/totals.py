"""What one attempt has done and spent: heard while it goes on, and summed up in the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_jobs.labelling.guard import overview_of
from data_jobs.labelling.ledger import Progress
from data_jobs.labelling.metrics import JobMetrics
from everymask.labels.overview import Overview
from everymask.labels.run_summary import RunSummary


class Totals:
    """Adds up the parts and the ledgers of an attempt, and tells Prometheus meanwhile.

    Args:
        gpus_per_worker: 0 on the CPU.
    """

    def __init__(self, gpus_per_worker: float) -> None:
        self._gpus_per_worker = gpus_per_worker
        self._overview = Overview()
        self._images = 0
        self._seconds: dict[str, float] = {}
        self.metrics = JobMetrics()

    def add_part(self, part: Mapping[str, Any]) -> None:
        """Count a part, by the row that its writer returned."""
        self._images += part["images"]
        self._overview += overview_of(part)
        self.metrics.part_written()

    def add_ledger(self, last: Progress) -> None:
        """Count what a ledger has heard in all."""
        for stage, seconds in last.seconds.items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def summary(self) -> RunSummary:
        """What has been counted."""
        seconds = dict(self._seconds)
        worker_s, device_s = seconds.pop("worker", 0.0), seconds.pop("device", 0.0)
        gpus = self._gpus_per_worker
        gpu_hours = worker_s * gpus / 3600
        return RunSummary(self._images, seconds, worker_s, device_s, gpus, self._overview, gpu_hours)
