"""What polygon formats make of single shapes: IoU of the mask with what the format's readers fill.

    python benchmarks/polygon_shapes.py --json benchmarks/results/polygon-shapes.json

Ultralytics fills with `cv2.fillPoly`, which takes corners for pixels and draws the outline; the others' readers set the
pixels whose centre lies inside. No outline is simplified.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tyro
from numpy.typing import NDArray

from everymask.evaluation.figure_files import write_figures
from everymask.formats.export import ExportRequest, export
from everymask.formats.registry import find_format
from everymask.labels.mask_ids import with_mask_ids
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.labelled import labelled_masks
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels

SIZE_HW = (120, 160)
COLUMNS = {
    "yolo": ("yolo", None, 0.0),
    "coco": ("coco", "polygon", 0.0),
    "label-studio": ("label-studio", "polygon", 0.0),
    "x-anylabeling": ("x-anylabeling", None, 0.0),
}
"""Format, way to write masks, and tolerance in pixels."""


@dataclass(frozen=True)
class Config:
    """Measure polygon formats."""

    json: Path | None = None
    """Also write the figures to this file."""


def shapes() -> dict[str, NDArray[np.bool_]]:
    """(120, 160) masks by name."""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    distance = np.hypot(y - 60, x - 80)
    square, two = np.zeros(SIZE_HW, dtype=np.bool_), np.zeros(SIZE_HW, dtype=np.bool_)
    square[30:90, 40:100] = True
    two[20:50, 20:60] = two[70:100, 80:130] = True
    return {
        "square": square,
        "disc": distance < 40,
        "small disc": distance < 5,
        "ring": (distance < 40) & (distance > 20),
        "line, 1 px": np.abs(y - 30 - x // 3) < 1,
        "line, 3 px": np.abs(y - 30 - x // 3) < 2,
        "one pixel": distance < 1,
        "two parts": two,
    }


def iou(mask: NDArray[np.bool_], name: str, segmentation: str | None, tolerance_px: float) -> float:
    """What an export of this mask says of its loss."""
    made = labelled_masks(
        [encode_mask(mask)], predicted_iou=[1.0], stability_score=[1.0], point_coords=[(0.0, 0.0)], score=[1.0]
    )
    labels = with_mask_ids(ImageLabels(SIZE_HW, tuple(made), float(mask.mean())), None, "")
    chosen = find_format(name)
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore(f"{folder}/labels")
        store.write_part(to_table([ImageRow("shape.png", "shape.png", labels)]))
        options = chosen.options(segmentation, tolerance_px, None, "benchmark")
        return export(store, ExportRequest(chosen, options, f"{folder}/out{chosen.suffix}")).loss.worst_iou


def main() -> None:
    config = tyro.cli(Config, description=__doc__)
    figures = {
        shape: {column: f"{iou(mask, *how):.4f}" for column, how in COLUMNS.items()} for shape, mask in shapes().items()
    }
    for shape, row in figures.items():
        print(shape, row)
    if config.json is not None:
        write_figures(config.json, figures, {})


if __name__ == "__main__":
    main()
