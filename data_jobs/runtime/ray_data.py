"""Ray Data as our commands use it: quiet, with one progress line, and patient."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset

from data_jobs.runtime.progress import ProgressLine


def prepare_ray_data(preserve_order: bool = False) -> None:
    """Set up Ray Data for this process; `preserve_order` keeps results in the order of the input."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = preserve_order
    # Wrapped in an error of Ray's, what a stage raises is lost on its way to the driver: the cause is not pickled.
    context.raise_original_map_exception = True
    # Loading a large model, or a batch of it on a CPU, may take many minutes.
    context.execution_no_progress_timeout_s = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # an error is told once, by the command


def rows_of(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """A dataset's rows as they become ready; the driver holds one block at a time."""
    # Not iter_batches: every few seconds it pickles what Ray Data remembers of all blocks so far, which after ten
    # thousand takes most of the driver's time.
    for bundle in dataset.iter_internal_ref_bundles():
        for block in bundle.block_refs:
            yield from cast(pa.Table, ray.get(block)).to_pylist()


@contextmanager
def progress_line(
    total: int | Callable[[], int], verb: str, note: Callable[[], str] | None = None
) -> Iterator[ProgressLine]:
    """A progress line that always leaves the terminal in order."""
    line = ProgressLine(total, verb=verb, note=note)
    try:
        yield line
    finally:
        line.close()
