"""Send thousands of nearly valid bodies: `python benchmarks/mutated_bodies.py`.

No answer may be a 5xx other than 503 with `Retry-After`. Starts a service of its own; `--url` names a running one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import tyro

HOME = Path(__file__).resolve().parent.parent
# Started as a script, Python looks for modules beside the script, not above it.
sys.path.insert(0, str(HOME))

from everymask.classes.shipped import SHIPPED_HEADS  # noqa: E402
from tests.serve.mutated_bodies import mutated_bodies, send  # noqa: E402
from tests.serve.running_service import start_service  # noqa: E402
from ui.app import API_KEY_VARIABLE  # noqa: E402


@dataclass(frozen=True)
class Options:
    """Send nearly valid bodies, and count the answers."""

    count: int = 10_000
    seed: int = 7
    """The same bodies for the same seed."""
    url: str | None = None
    """A running service; its key is read from EVERYMASK_API_KEY. Without it one is started."""


def main() -> int:
    """Send them; 1 if an answer is not allowed."""
    options = tyro.cli(Options)
    bodies = mutated_bodies(options.count, options.seed)
    if options.url is not None:
        key = {"Authorization": f"Bearer {os.environ[API_KEY_VARIABLE]}"} if API_KEY_VARIABLE in os.environ else {}
        with httpx.Client(base_url=options.url, headers=key, timeout=120) as http:
            statuses, faults = send(http, bodies)
    else:
        settings = {"model": "nano", "label_studio": True, "x_anylabeling": True, "images_root": tempfile.gettempdir()}
        heads = SHIPPED_HEADS
        with start_service(settings, heads) as service, service.client() as http:
            statuses, faults = send(http, bodies)
    print(
        f"{options.count:,} bodies: " + ", ".join(f"{status} {count:,}" for status, count in sorted(statuses.items()))
    )
    print(*faults, f"{len(faults)} answered as no body may be", sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
