"""What a team does in a month, in one run: time and memory of its steps, and what the cluster counted meanwhile.

python benchmarks/month.py                               2,000 images
python benchmarks/month.py --images 200 --corrected 20   in small
python benchmarks/month.py --older                       it begins with a label store of format 3
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))

from everymask.evaluation.figure_files import weights_of, write_figures  # noqa: E402
from tests.month.machine import machine  # noqa: E402
from tests.month.month import Month  # noqa: E402


@dataclass(frozen=True)
class Config:
    """How long a month."""

    images: int = 2000
    """Images in the collection."""
    corrected: int = 100
    """Images corrected in the browser; half as many come back from Label Studio."""
    seed: int = 0
    """Of the pictures, and of what is killed."""
    older: bool = False
    """Begin with half of the images in a label store of format 3."""
    json: Path | None = None
    """File for what the steps took."""
    account: Path | None = None
    """File for what was counted at the end."""


def main() -> None:
    config = tyro.cli(Config, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        with machine(Path(folder)) as here:
            month = Month(here, config.images, config.seed, config.corrected, config.older)
            try:
                month.run()
            finally:
                for step in here.steps:
                    print(f"{step.seconds:8.0f} s  {step.peak_mib:6,} MiB  load {step.load:4.1f}  {step.name}")
                for name, value in sorted(here.counters.items()):
                    print(f"{value:14,.0f}  {name}")
        counted = month.account | {"processes left": 0}  # the machine is gone, and would have said so
        for name, number in counted.items():
            print(f"{number:14,}  {name}")
    weights = weights_of(["nano"])
    if config.json is not None:
        steps = {
            step.name: {"seconds": round(step.seconds), "MiB": step.peak_mib, "load": step.load} for step in here.steps
        }
        write_figures(config.json, steps, weights)
    if config.account is not None:
        scraped = {
            name.removeprefix("ray_"): {"number": round(value)}
            for name, value in sorted(here.counters.items())
            if not name.endswith(("_bucket", "_count", "_sum"))  # of a histogram, whose highest value says nothing
        }
        write_figures(config.account, {name: {"number": number} for name, number in counted.items()} | scraped, weights)


if __name__ == "__main__":
    main()
