"""Estimates how long one more request would wait, from recent requests."""

from __future__ import annotations

_WEIGHT = 0.2
"""Weight of the latest request in the running mean."""


class Pace:
    """The running mean of one request's seconds, independent of how many run at once. Times are of one clock."""

    def __init__(self) -> None:
        self._latest = float("-inf")
        self._each_s = 0.0

    def answered(self, began: float, now: float, in_time: bool = True) -> None:
        """Record the end of a request that was admitted at `began`.

        While requests queue, one takes the time between two answers. Those given up end all at once, so they can only
        raise the estimate.
        """
        took = now - max(began, self._latest)
        self._latest = now
        if in_time or took > self._each_s:
            self._each_s += _WEIGHT * (took - self._each_s)

    def expected_s(self, in_flight: int) -> float:
        """Seconds from admission to answer for one more request."""
        return (in_flight + 1) * self._each_s
