"""An iterator that goes on by itself while its items are worked on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, made in a thread that does not wait for whoever takes them; it begins at once.

    What the items raise is raised here, after the items before it.
    """
    waiting: SimpleQueue[T | _End] = SimpleQueue()

    def make() -> None:
        try:
            for item in items:
                waiting.put(item)
            waiting.put(_End())
        except BaseException as error:
            waiting.put(_End(error))

    threading.Thread(target=make, daemon=True).start()
    return _taken(waiting)


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _taken(waiting: SimpleQueue[T | _End]) -> Iterator[T]:
    while not isinstance(item := waiting.get(), _End):
        yield item
    if item.error is not None:
        raise item.error
