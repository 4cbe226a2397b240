"""What is hidden, and that nothing else is lost: seen from outside, as a terminal sees it."""

from __future__ import annotations

import subprocess
import sys

from data_jobs.runtime.hidden_lines import HARMLESS


def written(script: str) -> str:
    """What a process that hides lines writes to its standard error."""
    script = f"import os, sys\nfrom data_jobs.runtime.hidden_lines import HARMLESS, hide_lines\n{script}"
    return subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, check=False).stderr


def test_harmless_lines_of_a_compiled_library_are_dropped_and_all_others_kept() -> None:
    line = f"[2026-11-30 03:24:05,949 E 1 1] core_worker.cc:2465: Actor {HARMLESS[0]}. See …"
    script = f"hide_lines(HARMLESS)\nos.write(2, {f'before{chr(10)}{line}{chr(10)}[after]{chr(10)}no end'!r}.encode())"
    assert written(script) == "before\n[after]\nno end"


def test_a_line_in_two_pieces_is_still_one() -> None:
    script = f"hide_lines(HARMLESS)\nos.write(2, b'[E] Actor ')\nos.write(2, {HARMLESS[0]!r}.encode() + b'\\nkept\\n')"
    assert written(script) == "kept\n"


def test_an_exception_and_what_is_printed_last_are_seen() -> None:
    said = written("hide_lines(HARMLESS)\nprint('last words', file=sys.stderr)\nraise SystemError('broken')")
    assert "last words" in said
    assert said.endswith("SystemError: broken\n")


def test_much_is_written_whole() -> None:
    said = written("hide_lines(HARMLESS)\nfor number in range(20000): print(f'[{number}]', file=sys.stderr)")
    assert said.splitlines() == [f"[{number}]" for number in range(20000)]
