"""A progress line for long jobs: overwritten in a terminal, occasionally repeated in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from everymask.wording import counted

_silent = threading.Event()
_TERMINAL_SECONDS = 0.5
_LOG_SECONDS = 15.0


@contextmanager
def silence() -> Iterator[None]:
    """Suppress progress and waiting messages in the block."""
    _silent.set()
    try:
        yield
    finally:
        _silent.clear()


def is_silent() -> bool:
    return _silent.is_set()


def format_duration(seconds: float) -> str:
    """`3 s`, `2 min 05 s`, `4 h 07 min`, `3 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


class ProgressLine:
    """Shows `labelled 120 of 1,000 (12.0 %) · 3 errors · 4.2 images/s · 3 min 29 s left`.

    The rate excludes the time before the first image, when workers start and load weights.

    Args:
        total: images of this attempt; a function where that grows while the job goes on.
        stream: where to write; by default standard error, so that standard output is free for results.
        verb: what is done to an image.
        note: says what else there is to know, if anything.
    """

    def __init__(
        self,
        total: int | Callable[[], int],
        stream: TextIO | None = None,
        verb: str = "labelled",
        note: Callable[[], str] | None = None,
    ) -> None:
        self._total_now = total if callable(total) else lambda: total
        self._verb = verb
        self._note = note
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._first: tuple[float, int] | None = None
        self._shown_at = float("-inf")
        self._width = 0

    def update(self, finished: int, errors: int, now: float | None = None) -> None:
        """Show the state, unless it was shown just before.

        Args:
            finished: images done in this attempt, errors included.
            errors: failed images among them.
            now: seconds of any monotonic clock.
        """
        now = time.monotonic() if now is None else now
        if self._first is None and finished:
            self._first = (now, finished)
        if now - self._shown_at >= (_TERMINAL_SECONDS if self._terminal else _LOG_SECONDS):
            self._shown_at = now
            self._show(self.text(min(finished, self._total), errors, now))

    def close(self) -> None:
        """Move the terminal to a fresh line."""
        if self._terminal and self._width:
            self._stream.write("\n")
            self._stream.flush()

    @property
    def _total(self) -> int:
        return self._total_now()

    def text(self, finished: int, errors: int, now: float) -> str:
        parts = [f"{self._verb} {finished:,} of {self._total:,} ({finished / max(self._total, 1):.1%})"]
        if errors:
            parts.append(counted(errors, "error"))
        rate = self._rate(finished, now)
        if rate:
            parts.append(f"{rate:.3g} images/s")
            parts.append(f"{format_duration((self._total - finished) / rate)} left")
        elif finished < self._total:
            parts.append("starting" if not finished else "measuring")
        if self._note is not None and (note := self._note()):
            parts.append(note)
        return " · ".join(parts)

    def _rate(self, finished: int, now: float) -> float | None:
        if self._first is None:
            return None
        since, already = self._first
        return (finished - already) / (now - since) if finished > already and now > since else None

    def _show(self, text: str) -> None:
        if is_silent():
            return
        if self._terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
