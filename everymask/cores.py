"""Processor cores."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """How many cores this process may use: of those it is bound to, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
