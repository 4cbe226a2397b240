"""Exports in one line, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from everymask.formats.export import ExportReport, ExportRequest, Progress, export
from everymask.formats.processes import WriteShares, write_here
from everymask.formats.registry import find_format
from everymask.labels.store import LabelStore


def run_export(
    store: LabelStore,
    name: str,
    output: Path,
    segmentation: str | None = None,
    tolerance_px: float | None = None,
    task: str | None = None,
    progress: Progress = lambda done, total: None,
    write_shares: WriteShares = write_here,
    **request: Any,
) -> ExportReport:
    """Export `store` as format `name`; further arguments are those of `ExportRequest`."""
    chosen = find_format(name)
    options = chosen.options(segmentation, tolerance_px, None, "test", task)
    return export(store, ExportRequest(chosen, options, str(output), **request), progress, write_shares)
