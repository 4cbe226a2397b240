"""Copy a label store of an older format into today's.

    everymask upgrade labels --output labels-4

The store itself stays as it is. Killed, the same command goes on. Exit codes: 0 done; 2 no label store, one of today's
format, or an output that holds something else or cannot be written.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

from data_jobs.runtime.command import Command
from data_jobs.runtime.exit_codes import DONE
from data_jobs.runtime.outcome import next_step, tell
from data_jobs.runtime.progress import ProgressLine
from everymask.files.storage import canonical_uri
from everymask.labels.schema import FORMAT_VERSION
from everymask.labels.store import LabelStore
from everymask.labels.upgrade import upgrade
from everymask.redaction import redact
from everymask.wording import counted


@dataclass(frozen=True)
class UpgradeConfig:
    """Copy a label store of an older format into today's."""

    labels: str
    """Folder or address of the label store."""
    output: str
    """Folder or address of the copy."""


def run(config: UpgradeConfig) -> int:
    """Copy the store; returns the exit code. Raises as `everymask.labels.upgrade.upgrade`."""
    store, copy = (LabelStore(canonical_uri(place)) for place in (config.labels, config.output))
    line: ProgressLine | None = None

    def show(done: int, total: int) -> None:
        nonlocal line
        line = line or ProgressLine(total, verb="copied")
        line.update(done, 0)

    try:
        done = upgrade(store, copy, show)
    finally:
        if line is not None:
            line.close()
    print(
        f"{redact(copy.uri)} has format {FORMAT_VERSION}: {counted(done.counts.images, 'image')}, "
        f"{counted(done.counts.masks, 'mask')}, {counted(done.corrections, 'correction')} of {redact(store.uri)} "
        f"(format {done.before}), which stays as it is"
    )
    tell(output=redact(copy.uri), images=done.counts.images, masks=done.counts.masks, corrections=done.corrections)
    next_step(f"everymask browse {shlex.quote(redact(copy.uri))}")
    return DONE


command = Command(
    "upgrade",
    UpgradeConfig,
    run,
    "Copy a label store of an older format into today's. The store itself stays as it is.",
    interrupted="the same command goes on",
)

if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
