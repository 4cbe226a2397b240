from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores that this process may use; where the system tells, only those it is bound to."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
