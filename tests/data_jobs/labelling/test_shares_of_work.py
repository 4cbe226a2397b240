"""How a run's images are cut: everybody has work, and little is lost with a worker or a driver."""

from __future__ import annotations

import pytest

from data_jobs.labelling.pipeline import most_readers, rows_per_part, rows_per_task


@pytest.mark.parametrize("images", [1, 7, 100, 5_000, 10**7])
def test_more_labellers_get_no_more_at_a_time_and_none_goes_without(images: int) -> None:
    sizes = [rows_per_task(images, actors) for actors in (1, 2, 8, 100, 1000)]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= 1
    assert all(images // rows_per_task(images, actors) >= actors for actors in (1, 2, 8) if actors <= images)
    assert rows_per_task(images, 1) <= rows_per_task(10 * images, 1) <= 1000


def test_parts_are_few_and_not_large() -> None:
    sizes = [rows_per_part(images) for images in (1, 100, 100_000, 10**9)]
    assert sizes == sorted(sizes)
    assert 1 < sizes[0] < 10
    assert sizes[-1] < 1000
    assert 100_000 / rows_per_part(100_000) <= 1000


def test_readers_follow_labellers_and_are_no_more_than_tasks() -> None:
    assert most_readers(1, 100) >= 2
    assert most_readers(1, 1) == 1
    assert most_readers(100, 10**6) > most_readers(10, 10**6) > 2
