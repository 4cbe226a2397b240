"""How a run is cut: what one worker gets at a time, how many read, and what stands in one file of the store."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_jobs.labelling.ledger import Ledger, timed
from data_jobs.labelling.pipeline import _labellers, most_readers, rows_per_part, rows_per_task
from data_jobs.runtime.actors import Actors


@given(st.integers(1, 10**7), st.integers(1, 500))
def test_every_labeller_gets_work_several_times_over(images: int, actors: int) -> None:
    rows = rows_per_task(images, actors)
    assert 1 <= rows <= 32, "a lost worker costs few images"
    assert rows == 1 or images // rows >= 8 * actors
    assert rows == 32 or images // (rows + 1) < 8 * actors, "and no smaller than it must be"


@pytest.mark.parametrize(
    ("images", "rows"), [(1, 4), (4_999, 4), (5_000, 5), (100_000, 100), (256_000, 256), (10**7, 256)]
)
def test_a_file_of_the_store_holds_a_thousandth_of_a_run_within_bounds(images: int, rows: int) -> None:
    assert rows_per_part(images) == rows


@pytest.mark.parametrize(
    ("actors", "tasks", "readers"), [(1, 100, 2), (4, 100, 2), (5, 100, 3), (16, 100, 8), (16, 3, 3), (1, 1, 1)]
)
def test_one_process_reads_for_two_labellers_and_two_read_for_one(actors: int, tasks: int, readers: int) -> None:
    assert most_readers(actors, tasks) == readers


def test_a_gpu_is_given_its_next_block_before_the_last_one_is_done() -> None:
    on_cpu = _labellers(Actors(minimum=1, maximum=3, gpus=0, cpus=1, threads=1))
    on_gpu = _labellers(Actors(minimum=1, maximum=3, gpus=1, cpus=1, threads=1))
    for pool in (on_cpu, on_gpu):
        assert (pool.min_size, pool.max_size) == (1, 3)
    assert on_cpu.max_tasks_in_flight_per_actor == 2
    assert on_gpu.max_tasks_in_flight_per_actor == 3


def test_the_time_of_a_block_that_fails_is_counted_too() -> None:
    ledger = Ledger()
    with timed(ledger, "read"):
        pass
    first = ledger.progress().seconds
    with pytest.raises(OSError, match="the disk is full"), timed(ledger, "write"):
        raise OSError("the disk is full")
    assert first.keys() == {"read"}
    assert ledger.progress().seconds.keys() == {"read", "write"}
    with timed(ledger, "read"):
        pass
    assert ledger.progress().seconds["read"] > first["read"] >= 0
