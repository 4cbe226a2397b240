"""The labelling job with a labeller that computes nothing.

    python benchmarks/scaling_standin.py --input manifest.parquet --output labels

takes the options of `everymask label`. Everything but the model runs: files are read, booked and written.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa

import data_jobs.labelling.pipeline
from data_jobs.label_dataset import command
from data_jobs.labelling.ledger import Bookkeeper
from data_jobs.labelling.model_spec import ModelSpec


class InstantStage:
    """Imports its labeller on the worker, as the job's stage does: so the driver's memory is what it always is."""

    def __init__(self, spec: ModelSpec, ledger: Bookkeeper, together: int) -> None:
        from benchmarks.scaling_labellers import InstantLabeller

        self._labeller = InstantLabeller(spec, ledger, together)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Loaded files become rows without masks."""
        return self._labeller(batch)


def main() -> int:
    """Run the job."""
    vars(data_jobs.labelling.pipeline).update(LabellerStage=InstantStage)
    return command(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
