"""The best masks that nano's cells allow, which no decoder can exceed, beside those of SLIC's superpixels.

python benchmarks/nano_cells.py --path DATA/coco_panoptic/val --json benchmarks/results/nano-cells.json
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.segmentation import slic

from everymask.backbone.nano.backbone import canvas_image
from everymask.backbone.registry import load_backbone
from everymask.evaluation.click_accuracy import click_pictures
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.evaluation.ground_truth import coco_panoptic_pictures

SUPERPIXELS = 400


def best_iou(segment: NDArray[np.bool_], cells: NDArray[np.int64]) -> float:
    """The largest IoU that a union of cells has with a segment: the cells with the greatest shares inside it."""
    areas = np.bincount(cells.ravel()).astype(np.float64)
    inside = np.bincount(cells[segment], minlength=len(areas)).astype(np.float64)
    order = np.argsort(-inside / np.maximum(areas, 1), kind="stable")
    covered = np.cumsum(inside[order])
    best: float = (covered / (segment.sum() + np.cumsum(areas[order]) - covered)).max()
    return best


def enlarged(cells: NDArray[np.int64], size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """A map of cells at the image's resolution."""
    rows = (np.arange(size_hw[0]) + 0.5) * cells.shape[0] / size_hw[0]
    columns = (np.arange(size_hw[1]) + 0.5) * cells.shape[1] / size_hw[1]
    return cells[rows.astype(np.int64)][:, columns.astype(np.int64)]


def row(found: Iterable[tuple[float, float]]) -> dict[str, Any]:
    """Means over segments of (IoU, share of the picture)."""
    ious, shares = map(np.array, zip(*found, strict=True))
    roots = np.sqrt(shares)
    return {
        "segments": len(ious),
        "mean": float(ious.mean()),
        "by_root_area": float((ious * roots).sum() / roots.sum()),
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    backbone = load_backbone("nano", None, "cpu")
    found: dict[str, list[tuple[float, float]]] = {"nano's cells": [], f"{SUPERPIXELS} SLIC superpixels": []}
    for picture in click_pictures(coco_panoptic_pictures(args.path)[: args.limit]):
        size_hw = picture.image.shape[0], picture.image.shape[1]
        with torch.inference_mode():
            own = backbone.embed([picture.image])[0].canvas.cell_index.numpy()
        superpixels = slic(canvas_image(picture.image), SUPERPIXELS, start_label=0)
        for cells, ious in zip((own, superpixels), found.values(), strict=True):
            full = enlarged(cells.astype(np.int64), size_hw)
            ious += [(best_iou(segment, full), segment.mean()) for segment in picture.segments]
    figures = {name: row(ious) for name, ious in found.items()}
    for name, values in figures.items():
        print(name, values)
    if args.json:
        write_figures(args.json, figures, weights_of(["nano"]))


if __name__ == "__main__":
    main()
