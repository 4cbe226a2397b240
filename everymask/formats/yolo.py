"""YOLO: a text file for each image, `labels/SPLIT/IMAGE without ending.txt`, images beside them, and data.yaml.

A segmentation line is `class x0 y0 x1 y1 …`, classes from 0, in [0, 1] of width and height: one ring through the
centres of the mask's outermost pixels, which the trainers' `cv2.fillPoly` fills to exactly the mask. A line is one
object, so a mask of several parts stays one line; the thin lines that join its parts are drawn too, and parts smaller
than their line are left out. A detection line is `class x y width height`: the box's centre and size.

data.yaml has no `path`: Ultralytics then looks beside the file, wherever it is started.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.naming import stem_path
from everymask.formats.outlines import simplified_pixels
from everymask.formats.spliced_json import ring_texts
from everymask.masks.column_runs import ColumnRuns, Ints
from everymask.masks.pixel_polygons import filled_runs, pixel_polygons
from everymask.records import LabelledMask, Rle

_INSET = 0.4
"""Distance of corners from pixel centres for a mask one pixel wide or high, which Ultralytics would otherwise drop as a
box without area."""


@lru_cache(maxsize=256)
def pixel_tokens(length: int) -> tuple[str, ...]:
    """The centre of each of `length` pixels as text, in [0, 1], a space behind each."""
    return tuple(f"{(pixel + 0.5) / length:.7g} " for pixel in range(length))


def read_pixels(tokens: Sequence[str], length: int) -> Ints:
    """The pixels that Ultralytics reads from coordinates: 32-bit floats times the length, truncated."""
    return (np.array([float(token) for token in tokens], dtype=np.float32) * np.float32(length)).astype(np.int64)


def yolo_lines(polygons: Sequence[Ints], classes: Sequence[int], size_hw: tuple[int, int]) -> list[str]:
    """Rings of (K, 2) pixels (x, y) as lines; "" for an empty ring."""
    height, width = size_hw
    texts = ring_texts(polygons, pixel_tokens(width), pixel_tokens(height))
    for number in _thin(polygons):
        texts[number] = _thin_ring(polygons[number], size_hw)
    return [f"{index} {text[:-1]}" if text else "" for text, index in zip(texts, classes, strict=True)]


def _thin(polygons: Sequence[Ints]) -> list[int]:
    """Which rings are around pixels on a single line."""
    some = [number for number, polygon in enumerate(polygons) if len(polygon)]
    if not some:
        return []
    firsts = np.cumsum([0, *(len(polygons[number]) for number in some)])[:-1]
    axes = np.concatenate(polygons).T.copy()
    flat = [np.maximum.reduceat(axis, firsts) == np.minimum.reduceat(axis, firsts) for axis in axes]
    return [some[place] for place in np.flatnonzero(flat[0] | flat[1])]


def _thin_ring(polygon: Ints, size_hw: tuple[int, int]) -> str:
    """The coordinates of a ring around pixels on a single line, a space behind each."""
    height, width = size_hw
    (left, top), (right, bottom) = polygon.min(axis=0) - _INSET, polygon.max(axis=0) + _INSET
    ring = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return "".join(f"{(value + 0.5) / length:.7g} " for x, y in ring for value, length in ((x, width), (y, height)))


def box_line(mask: LabelledMask, class_index: int) -> str:
    """One mask's box as a line; "" for an empty mask."""
    height, width = mask.rle["size"]
    x0, y0, x1, y1 = mask.box_xyxy
    values = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
    return f"{class_index} " + " ".join(f"{value:.7g}" for value in values) if mask.area else ""


def yolo_polygons(stored: ColumnRuns, rles: Sequence[Rle], tolerance_px: float) -> list[Ints]:
    """The ring of each mask, (K, 2) pixels (x, y); (0, 2) for an empty one."""
    polygons = pixel_polygons(stored, len(rles))
    if not tolerance_px:
        return polygons
    return [simplified_pixels(polygon, rle, tolerance_px) for polygon, rle in zip(polygons, rles, strict=True)]


class YoloWriter:
    """Writes one label file for each image, empty if it has no mask."""

    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._options = options

    def add(self, exported: ExportedImage) -> list[Rle]:
        """Write an image. For detection, boxes are exact and no masks are written, so nothing is compared."""
        masks, size_hw = exported.labels.masks, exported.labels.size_hw
        classes = [self._destination.names.index(mask) for mask in masks]
        if self._options.task == "detect":
            lines = [box_line(mask, index) for mask, index in zip(masks, classes, strict=True)]
            read = [mask.rle for mask in masks]
        else:
            rles = [mask.rle for mask in masks]
            stored = ColumnRuns.of_rles(rles, size_hw)
            polygons = yolo_polygons(stored, rles, self._options.tolerance_px)
            lines = yolo_lines(polygons, classes, size_hw)
            # Ultralytics reads the same pixels again (`read_pixels`), of whatever size the image is.
            read = filled_runs(polygons, size_hw).rles_of_copies(stored, rles)
        path = self._destination.folder / "labels" / exported.split / f"{stem_path(exported.name)}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines if line), encoding="utf-8")
        return read

    def end(self) -> Ended:
        return Ended()


def _write_data_yaml(destination: Destination, options: ExportOptions, ended: Sequence[Ended]) -> None:
    names = destination.names.dense()
    listed = "".join(f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(names))
    folders = {split: f"images/{split}" for split in destination.splits} or {"train": "images"}
    # Ultralytics asks for both; where one is empty, the report says so.
    folders.setdefault("train", next(iter(folders.values())))
    folders.setdefault("val", folders["train"])
    places = "".join(f"{split}: {folder}\n" for split, folder in folders.items())
    text = f"{places}nc: {len(names)}\nnames:\n{listed}"
    Path(destination.folder, "data.yaml").write_text(text, encoding="utf-8")


def _next_line(output: str, options: ExportOptions) -> str:
    model = "yolo11n.pt" if options.task == "detect" else "yolo11n-seg.pt"
    return f"yolo {options.task} train data={shlex.quote(output.rstrip('/') + '/data.yaml')} model={model}"


YOLO = Format(
    name="yolo",
    summary="YOLO segmentation or detection, a text file for each image and data.yaml: Ultralytics",
    suffix="",
    naming=Naming.STEM,
    keeps=frozenset({Keeps.OVERLAPS, Keeps.HOLES}),
    exact=False,
    writer=YoloWriter,
    close=_write_data_yaml,
    tolerance_px=0.0,
    tasks=("segment", "detect"),
    image_folder="images/{split}",
    needs_images=True,
    has_splits=True,
    caveat=(
        "one object is one outline here: lines that join the parts of a mask are drawn, and parts of fewer pixels than "
        "their line are left out; masks of one part lose nothing, and the COCO formats keep all"
    ),
    next_line=_next_line,
)
