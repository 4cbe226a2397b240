"""What a team does in a month, in one run; prints a table of its steps.

python -m tests.month                               2,000 images
python -m tests.month --images 200 --corrected 20   in small
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from tests.month.machine import machine
from tests.month.month import Month


@dataclass(frozen=True)
class Config:
    """How long a month."""

    images: int = 2000
    """Images in the collection."""
    corrected: int = 100
    """Images corrected in the browser; half as many come back from Label Studio."""
    seed: int = 0
    """Of the pictures, and of what is killed."""
    json: Path | None = None
    """File for the figures."""


def main() -> None:
    config = tyro.cli(Config, description=__doc__)
    with tempfile.TemporaryDirectory() as folder, machine(Path(folder)) as here:
        try:
            Month(here, config.images, config.seed, config.corrected).run()
        finally:
            for step in here.steps:
                print(f"{step.seconds:8.1f} s  {step.peak_mib:6,} MiB  {step.name}")
            for name, value in sorted(here.counters.items()):
                print(f"{value:14,.0f}  {name}")
    if config.json is not None:
        figures = {"images": config.images, "corrected": config.corrected, "seed": config.seed}
        found = {**figures, "steps": [asdict(step) for step in here.steps], "counters": here.counters}
        config.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
