"""One line says how far the job is."""

from __future__ import annotations

from io import StringIO

import pytest

from data_jobs.runtime.progress import ProgressLine, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (14_820, "4 h 07 min"), (273_600, "3 d 04 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_the_rate_leaves_the_start_up_out() -> None:
    line = ProgressLine(1000, StringIO())
    line.update(0, 0, now=0)
    line.update(10, 0, now=60)
    assert line.text(60, 3, now=70) == "labelled 60 of 1,000 (6.0%) · 3 errors · 5 images/s · 3 min 08 s left"


def test_a_log_gets_a_line_now_and_then() -> None:
    stream = StringIO()
    line = ProgressLine(100, stream)
    for second in range(31):
        line.update(second, 0, now=second)
    line.close()
    assert stream.getvalue().count("\n") == 3
    assert "\r" not in stream.getvalue()


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_keeps_one_line() -> None:
    stream = Terminal()
    line = ProgressLine(100, stream)
    for second in range(5):
        line.update(10 * second, 0, now=second)
    line.close()
    assert stream.getvalue().count("\r") == 5
    assert stream.getvalue().count("\n") == 1


def test_images_of_redone_blocks_never_show_more_than_all() -> None:
    stream = StringIO()
    ProgressLine(10, stream).update(12, 0, now=0)
    assert stream.getvalue().startswith("labelled 10 of 10 (100.0%)")
