"""Turn a label store into a format that other tools read.

    python data_jobs/export_labels.py --labels labels --format coco --output instances.json
    python data_jobs/export_labels.py --labels labels --format entity-png --output maps

Exit codes: 0 done; 2 usage, no label store, or an output that cannot be written.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tyro

from everymask.errors import EverymaskError
from everymask.formats.coco import Segmentation, to_coco
from everymask.formats.exported import ExportCounts
from everymask.formats.label_png import to_entity_png, to_semantic_png
from everymask.formats.yolo import to_yolo
from everymask.labels.store import LabelStore


@dataclass(frozen=True)
class ExportConfig:
    """Turn a label store into a format that other tools read."""

    labels: str
    """Folder or address of the label store."""
    output: str
    """The file (coco) or folder (all others) to write, local or remote."""
    format: Literal["coco", "semantic-png", "entity-png", "yolo"] = "coco"
    """coco: instance JSON; semantic-png: class maps; entity-png: 16-bit entity maps; yolo: segmentation polygons."""
    segmentation: Segmentation = "rle"
    """For coco: rle keeps masks exactly in the least space; polygon is read by more tools."""


def export(config: ExportConfig) -> ExportCounts:
    """Write the export.

    Raises:
        EverymaskError: no label store, labels the format cannot hold, or an output that cannot be written.
    """
    store = LabelStore(config.labels)
    if config.format == "coco":
        return to_coco(store, config.output, config.segmentation)
    write = {"semantic-png": to_semantic_png, "entity-png": to_entity_png, "yolo": to_yolo}[config.format]
    return write(store, config.output)


def main(arguments: list[str] | None = None, program: str = "python data_jobs/export_labels.py") -> int:
    """The command; returns its exit code."""
    config = tyro.cli(ExportConfig, args=arguments, prog=program)
    try:
        counts = export(config)
    except EverymaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    left_out = f"; {counts.errors:,} images with errors are left out" if counts.errors else ""
    print(f"{config.output}: {counts.images:,} images, {counts.masks:,} masks{left_out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
