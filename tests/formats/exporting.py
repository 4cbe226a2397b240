"""Exports in one line, for tests, and stores to export."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from everymask.files.addresses import AddressPolicy
from everymask.formats.export import ExportReport, ExportRequest, Progress, export
from everymask.formats.processes import WriteShares, write_here
from everymask.formats.registry import FORMATS, find_format
from everymask.formats.splits import SplitOptions
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels
from tests.labels.examples import mask_record


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


def picture_store(folder: Path, images: int, parts: int = 1) -> LabelStore:
    """A store of pictures of 12 x 9 pixels, each with a mask of its own and one around it."""
    store = LabelStore(str(folder / "store"))
    pixels = np.zeros((9, 12, 3), dtype=np.uint8)
    for part in range(parts):
        rows = []
        for number in range(part, images, parts):
            mask = np.zeros((9, 12), dtype=np.bool_)
            mask.flat[: number % 90 + 1] = True
            masks = (mask_record(mask, 0.9, number % 2), mask_record(~mask, 0.5, 1))
            path = folder / f"{number:03d}.png"
            pixels[0, 0] = number
            Image.fromarray(pixels).save(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append(ImageRow(path.name, str(path), ImageLabels((9, 12), masks, 1.0), None, digest))
        store.write_part(to_table(rows))
    return store


def options_with_images(name: str) -> dict[str, Any]:
    """Splits and images, where a format has some."""
    options: dict[str, Any] = {"policy": AddressPolicy(any_local_file=True)}
    if FORMATS[name].has_splits:
        options |= {"split": SplitOptions((0.5, 0.5), by="content_sha256"), "images": "copy"}
    return options


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of every file."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


class Stop:
    """Progress that is interrupted when some images are done."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        self.first = done if self.first is None else self.first
        if done >= self.at:
            raise KeyboardInterrupt
