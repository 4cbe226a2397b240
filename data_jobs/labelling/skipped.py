"""Files that a listing of images skipped."""

from __future__ import annotations

from collections import Counter

_MAX_KINDS = 8


class Skipped:
    """Counts skipped files by ending."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, kind: str) -> None:
        self._counts[kind] += 1

    def __str__(self) -> str:
        """`skipped: 3 .heic, 2 .pdf`; empty if nothing was skipped."""
        found = [f"{count:,} {kind}" for kind, count in self._counts.most_common(_MAX_KINDS)]
        more = self._counts.total() - sum(count for _, count in self._counts.most_common(_MAX_KINDS))
        return f"skipped: {', '.join([*found, *([f'{more:,} others'] if more else [])])}" if found else ""
