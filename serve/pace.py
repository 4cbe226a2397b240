"""How long one more request would wait, going by those that were answered lately."""

from __future__ import annotations

_WEIGHT = 0.2
"""Of the latest request in the running mean."""


class Pace:
    """What one request takes, whatever works on it at the same time. Times are in seconds, of one clock."""

    def __init__(self) -> None:
        self._latest = float("-inf")
        self._each_s = 0.0

    def answered(self, began: float, now: float, in_time: bool = True) -> None:
        """Note the end of a request that was admitted at `began`.

        Where requests wait for each other, what lies between two answers is what one takes. Those that are given up
        end all at once, so they only tell that one takes longer than was thought.
        """
        took = now - max(began, self._latest)
        self._latest = now
        if in_time or took > self._each_s:
            self._each_s += _WEIGHT * (took - self._each_s)

    def expected_s(self, in_flight: int) -> float:
        """From admission to answer, for one more beside so many."""
        return (in_flight + 1) * self._each_s
