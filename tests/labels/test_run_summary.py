"""What a run spent: attempts add up, and a price becomes a cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from everymask.labels.overview import Failures, Overview
from everymask.labels.run_summary import RunSummary

FIRST = RunSummary(
    images=10,
    seconds={"read": 1.0, "refine": 4.0},
    worker_s=20.0,
    device_s=5.0,
    gpus_per_worker=0.5,
    overview=Overview(
        {"the file is empty": Failures(1, (("a.png", "the file is empty (0 bytes)"),))}, [("b.png", 2.0)]
    ),
    gpu_hours=0.25,
)
SECOND = RunSummary(images=5, seconds={"refine": 2.0, "write": 0.5}, worker_s=10.0, device_s=4.0, gpu_hours=0.5)


def test_attempts_add_up_stage_by_stage() -> None:
    both = FIRST + SECOND
    assert both.seconds == {"read": 1.0, "refine": 6.0, "write": 0.5}
    assert (both.images, both.worker_s, both.device_s, both.gpu_hours) == (15, 30.0, 9.0, 0.75)
    assert both.gpus_per_worker == 0.5, "the first attempt had half a GPU, the second none"
    assert (both.overview.errors, both.overview.slowest) == (1, [("b.png", 2.0)])
    assert both.busy_share == pytest.approx(0.3)


def test_a_share_is_never_more_than_all() -> None:
    assert replace(FIRST, device_s=90.0).busy_share == 1.0
    assert RunSummary().busy_share == 0.0


def test_a_cost_is_hours_times_price_where_there_were_gpus() -> None:
    assert FIRST.as_tree(price_per_gpu_hour=3.0)["cost"] == 0.75
    assert "cost" not in FIRST.as_tree()
    assert "cost" not in replace(FIRST, gpus_per_worker=0.0).as_tree(price_per_gpu_hour=3.0)


def test_what_was_recorded_is_read_again() -> None:
    again = RunSummary.from_tree((FIRST + SECOND).as_tree(price_per_gpu_hour=3.0))
    assert again == FIRST + SECOND
    assert list((FIRST + SECOND).as_tree()["seconds"]) == ["read", "refine", "write"]


def test_a_person_reads_stages_the_devices_share_and_the_cost() -> None:
    stages, busy, *rest = (FIRST + SECOND).lines(cost=2.25)
    assert stages == "seconds by stage, of 15 images: read 1, refine 6, write 0.5"
    assert busy == "GPUs computed for 30% of the workers' 30 s; 0.75 GPU-hours, cost 2.25"
    assert rest == ["1 × the file is empty: a.png", "slowest: b.png 2 s"]
    assert SECOND.lines()[1] == "the model computed for 40% of the workers' 10 s"
    assert RunSummary().lines() == []
