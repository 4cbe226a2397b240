"""What a job tells Ray to count, without Ray: what was added since it last told."""

from __future__ import annotations

from collections import Counter as Sums
from typing import Any

import pytest
from ray.util import metrics as ray_metrics

from data_jobs.labelling.ledger import Progress
from data_jobs.labelling.metrics import JobMetrics

Told = dict[tuple[str, ...], float]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The counters' sums and the gauges' last values, by name and the values of their tags."""
    found: Told = Sums()

    def add(counter: ray_metrics.Counter, value: float, tags: dict[str, str]) -> None:
        assert value > 0, "which Ray refuses"
        found[counter.info["name"], *tags.values()] += value

    def put(gauge: ray_metrics.Gauge, value: float, tags: dict[str, str]) -> None:
        found[gauge.info["name"], *tags.values()] = value

    monkeypatch.setattr(ray_metrics.Counter, "inc", add)
    monkeypatch.setattr(ray_metrics.Gauge, "set", put)
    return found


FIRST: dict[str, Any] = {
    "images": 10,
    "in_work": 4,
    "errors": {"lost": 2},
    "masks": 30,
    "file_bytes": 500,
    "seconds": {"read": 1.0, "device": 2.0, "worker": 8.0},
    "memory_bytes": {"cpu": 70},
}


def test_what_was_done_since_the_last_time_is_added_and_what_is_now_replaces(told: Told) -> None:
    metrics = JobMetrics()
    metrics.progressed(Progress(**FIRST), waiting=90)
    seconds = {"read": 1.5, "write": 0.5, "device": 2.0, "worker": 9.0}
    metrics.progressed(Progress(15, 0, {"lost": 2, "bomb": 1}, 31, 600, seconds, {}), waiting=0)
    metrics.part_written()
    metrics.shard_sealed()
    assert told == {
        ("everymask_job_images",): 15,
        ("everymask_job_masks",): 31,
        ("everymask_job_file_bytes",): 600,
        ("everymask_job_errors", "lost"): 2,
        ("everymask_job_errors", "bomb"): 1,
        ("everymask_job_stage_seconds", "read"): 1.5,
        ("everymask_job_stage_seconds", "write"): 0.5,
        ("everymask_job_device_seconds",): 2.0,
        ("everymask_job_worker_seconds",): 9.0,
        ("everymask_job_memory_bytes", "cpu"): 0,
        ("everymask_job_images_in_work",): 0,
        ("everymask_job_images_waiting",): 0,
        ("everymask_job_parts",): 1,
        ("everymask_job_shards_sealed",): 1,
    }


def test_a_ledger_that_began_anew_counts_from_zero(told: Told) -> None:
    metrics = JobMetrics()
    metrics.progressed(Progress(**FIRST), waiting=0)
    metrics.progressed(Progress(images=3, masks=40), waiting=0)  # its actor was restarted
    assert (told["everymask_job_images",], told["everymask_job_masks",]) == (13, 70)
    metrics.begin()
    metrics.progressed(Progress(images=4), waiting=0)
    assert told["everymask_job_images",] == 17


def test_errors_of_too_many_kinds_are_counted_together(told: Told) -> None:
    metrics = JobMetrics()
    kinds = {f"kind {number}": 1 for number in range(25)}
    metrics.progressed(Progress(images=25, errors=kinds), waiting=0)
    metrics.progressed(Progress(images=26, errors=kinds | {"kind 0": 2}), waiting=0)
    errors = {tags[0]: count for (name, *tags), count in told.items() if name == "everymask_job_errors"}
    assert errors == {**{f"kind {number}": 1 for number in range(20)}, "kind 0": 2, "other": 5}
