"""Lines of text that anyone may have written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

MAX_LINE_CHARACTERS = 2**20
"""Of a list, a manifest or an inventory; a packed file of a few kilobytes may hold a line of gigabytes."""


def bounded_lines(text: IO[str]) -> Iterator[str]:
    """The lines of a text, streaming.

    Raises:
        ValueError: one is longer than `MAX_LINE_CHARACTERS`.
    """
    number = 0
    while line := text.readline(MAX_LINE_CHARACTERS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARACTERS:
            raise ValueError(f"line {number:,} has more than {MAX_LINE_CHARACTERS:,} characters")
        yield line
