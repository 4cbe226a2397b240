"""YOLO segmentation: a text file for each image, `labels/IMAGE without ending.txt`, and data.yaml.

A line is `class x0 y0 x1 y1 …`, classes from 0, one polygon with corners in [0, 1] of width and height. A mask of
several parts, or with holes, stays one line: its rings are joined by cuts of no width, as COCO-to-YOLO converters do.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from everymask.formats.format import Destination, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.naming import stem_path
from everymask.formats.outlines import Polygon, coco_polygons
from everymask.masks.checked import fill_polygons
from everymask.records import LabelledMask, Rle


def yolo_polygon(mask: LabelledMask, tolerance_px: float = 0.0) -> Polygon:
    """(K, 2) corners (x, y) in pixels of one ring around every part of the mask; (0, 2) for an empty mask."""
    rings = [np.array(polygon).reshape(-1, 2) for polygon in coco_polygons(mask, tolerance_px)]
    if not rings:
        return np.zeros((0, 2))
    start = rings[0][:1]
    joined = [rings[0]]
    for ring in rings[1:]:
        joined += [start, ring, ring[:1]]
    return np.concatenate([*joined, start] if len(rings) > 1 else joined)


def yolo_line(mask: LabelledMask, class_index: int, tolerance_px: float = 0.0) -> str:
    """One mask as a line; an empty string for an empty mask."""
    height, width = mask.rle["size"]
    corners = yolo_polygon(mask, tolerance_px) / (width, height)
    return f"{class_index} " + " ".join(f"{value:.7g}" for value in corners.ravel()) if len(corners) else ""


def filled_line(line: str, size_hw: tuple[int, int]) -> Rle:
    """What a reader makes of a line, holes and joins included."""
    height, width = size_hw
    corners = np.array([float(value) for value in line.split()[1:]]).reshape(-1, 2) * (width, height)
    return fill_polygons([corners.ravel().tolist()], size_hw)


class YoloWriter:
    """Writes one label file for each image, empty where there is no mask."""

    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._tolerance_px = options.tolerance_px

    def add(self, exported: ExportedImage) -> list[Rle]:
        """See `Writer`."""
        lines = [
            yolo_line(mask, self._destination.names.index(mask), self._tolerance_px) for mask in exported.labels.masks
        ]
        path = self._destination.folder / "labels" / f"{stem_path(exported.name)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines if line), encoding="utf-8")
        return [filled_line(line, exported.labels.size_hw) for line in lines]

    def close(self) -> None:
        """See `Writer`."""
        names = self._destination.names.dense()
        listed = "".join(f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(names))
        text = f"path: .\ntrain: images\nval: images\nnc: {len(names)}\nnames:\n{listed}"
        Path(self._destination.folder, "data.yaml").write_text(text, encoding="utf-8")


YOLO = Format(
    name="yolo",
    summary="YOLO segmentation, a text file for each image and data.yaml: Ultralytics",
    suffix="",
    naming=Naming.STEM,
    keeps=frozenset({Keeps.OVERLAPS, Keeps.HOLES, Keeps.PARTS}),
    exact=True,
    writer=YoloWriter,
    tolerance_px=0.0,
)
