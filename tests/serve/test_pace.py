from __future__ import annotations

import pytest

from serve.pace import Pace


def paced(took_s: float, answers: int = 40, at_once: int = 1) -> Pace:
    """After requests that were worked on one after another, `at_once` of them admitted together."""
    pace = Pace()
    now = 0.0
    for _ in range(answers // at_once):
        began = now
        for _ in range(at_once):
            now += took_s
            pace.answered(began, now)
    return pace


@pytest.mark.parametrize("at_once", [1, 8])
def test_what_one_takes_is_known_whether_they_wait_or_not(at_once: int) -> None:
    assert paced(1.5, at_once=at_once).expected_s(in_flight=7) == pytest.approx(12, rel=0.01)


def test_it_knows_nothing_at_first() -> None:
    assert Pace().expected_s(1000) == 0


def test_it_learns_that_requests_have_become_quicker() -> None:
    pace = paced(20)
    for i in range(20):
        pace.answered(1000 + i, 1000 + i + 0.1)
    assert pace.expected_s(0) < 1


def test_requests_given_up_together_are_not_taken_for_quick_ones() -> None:
    pace = paced(2)
    for _ in range(30):
        pace.answered(100.0, 160.0, in_time=False)
    assert pace.expected_s(0) >= 2
