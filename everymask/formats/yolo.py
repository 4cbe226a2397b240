"""YOLO segmentation: a text file for each image, `labels/IMAGE_ID without ending.txt`, and data.yaml.

A line is `class x0 y0 x1 y1 …`, one polygon with corners in [0, 1] of width and height. A mask of several parts, or
with holes, stays one line: its rings are joined by cuts of no width, as COCO-to-YOLO converters do.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import numpy as np

from everymask.errors import ConfigurationError
from everymask.formats.exported import (
    ENTITY_CLASS,
    ExportCounts,
    class_of,
    dense_names,
    known_class_names,
    labelled_images,
    relative_path,
)
from everymask.labels.store import LabelStore
from everymask.masks.polygons import Ring, polygons_from_mask
from everymask.masks.rle import decode_mask
from everymask.records import ImageLabels, LabelledMask
from everymask.storage import resolve, write_whole


def yolo_polygon(mask: LabelledMask) -> Ring:
    """(K, 2) corners (x, y) in pixels of one ring around every part of the mask; (0, 2) for an empty mask."""
    rings = polygons_from_mask(decode_mask(mask.rle))
    if not rings:
        return np.zeros((0, 2), dtype=np.int64)
    start = rings[0][:1]
    joined = [rings[0]]
    for ring in rings[1:]:
        joined += [start, ring, ring[:1]]
    return np.concatenate([*joined, start] if len(rings) > 1 else joined)


def yolo_lines(labels: ImageLabels, names: dict[int, str]) -> str:
    """One line for each mask; `names` learns the classes.

    Raises:
        ConfigurationError: one class_id has two names.
    """
    height, width = labels.size_hw
    lines = []
    for mask in labels.masks:
        corners = yolo_polygon(mask) / (width, height)
        if len(corners):
            lines.append(f"{class_of(mask, names)} " + " ".join(f"{value:.6f}" for value in corners.ravel()))
    return "".join(line + "\n" for line in lines)


def to_yolo(store: LabelStore, output: str) -> ExportCounts:
    """Write a label file for every labelled image, empty where there is no mask, and data.yaml.

    Raises:
        InputError: there is no label store.
        ConfigurationError: two images differ only in their ending, or the store mixes class lists.
        OutputError: the folder cannot be written.
    """
    names = known_class_names(store)
    filesystem, folder = resolve(output)
    taken: dict[str, str] = {}
    masks = 0
    for image, labels in labelled_images(store):
        stem = str(PurePosixPath(relative_path(image.image_id)).with_suffix(""))
        if stem in taken:
            raise ConfigurationError(
                f"YOLO names labels by image without ending, so {taken[stem]} and {image.image_id} collide; rename "
                "one, or export as coco"
            )
        taken[stem] = image.image_id
        write_whole(filesystem, f"{folder}/labels/{stem}.txt", yolo_lines(labels, names).encode())
        masks += len(labels.masks)
    listed = "".join(
        f"  {index}: {json.dumps(name)}\n" for index, name in enumerate(dense_names(names) or [ENTITY_CLASS])
    )
    write_whole(filesystem, f"{folder}/data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{listed}".encode())
    return ExportCounts(len(taken), masks, store.summary().errors)
