"""Tells the user what is waited for, once it takes longer than a moment."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from data_jobs.runtime.progress import format_duration, is_silent

FIRST_WORD_S, AGAIN_EVERY_S = 2.0, 30.0


@contextmanager
def waiting(
    words: str | Callable[[], str], first_word_s: float = FIRST_WORD_S, again_every_s: float = AGAIN_EVERY_S
) -> Iterator[None]:
    """Print on standard error what is being done, once the block takes longer than `first_word_s`, and then regularly.

    `words` are such as `starting Ray`, or say anew how far it is; both times are in seconds.
    """
    done = threading.Event()
    started = time.monotonic()

    def now() -> str:
        return words if isinstance(words, str) else words()

    def tell() -> None:
        if done.wait(first_word_s) or is_silent():
            return
        print(f"{now()} …", file=sys.stderr, flush=True)
        while not done.wait(again_every_s):
            print(f"{now()}, since {format_duration(time.monotonic() - started)}", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
