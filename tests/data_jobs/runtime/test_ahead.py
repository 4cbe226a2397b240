"""An iterator goes on while its items are worked on, and its error comes after them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from data_jobs.runtime.ahead import ahead


def test_items_are_made_without_waiting_for_whoever_takes_them() -> None:
    made = threading.Event()

    def items() -> Iterator[int]:
        yield from range(5)
        made.set()

    taken = ahead(items())
    assert made.wait(60)
    assert list(taken) == [0, 1, 2, 3, 4]


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("lost")

    taken = ahead(items())
    assert next(taken) == 1
    with pytest.raises(ValueError, match="lost"):
        next(taken)
