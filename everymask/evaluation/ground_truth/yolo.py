"""YOLO segmentation: data.yaml, and a text file of outlines for each image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from everymask.errors import InputError
from everymask.formats.yolo import read_pixels
from everymask.masks.pixel_polygons import fill_pixel_polygons
from everymask.review.reviewed import ReviewedMask

_SPLITS = ("train", "val", "test")
_OUTSIDE = 0.01
"""Share of a side by which outlines may reach beyond the image, because tools round."""


def yolo_files(path: Path) -> tuple[dict[int, str], dict[str, Path]]:
    """Class names by number, and label files by their image's path in its folder, without ending.

    `path` is data.yaml; InputError if it is not one with outlines beside it.
    """
    try:
        content: Any = yaml.safe_load(path.read_bytes())
        names = content["names"]
        known = dict(enumerate(names)) if isinstance(names, list) else {int(key): name for key, name in names.items()}
        root = path.parent / str(content.get("path") or ".")
        folders = {root / str(content[split]) for split in _SPLITS if content.get(split)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} is no data.yaml of YOLO ({type(error).__name__}: {error})") from error
    files: dict[str, Path] = {}
    for folder in sorted(folders):
        # As Ultralytics finds them: the last `images` in the path becomes `labels`.
        before, found, after = f"{folder.as_posix()}/".rpartition("/images/")
        labels = Path(f"{before}/labels/{after}") if found else folder
        files |= {file.relative_to(labels).with_suffix("").as_posix(): file for file in sorted(labels.rglob("*.txt"))}
    if not files:
        raise InputError(f"{path} has no label file in a folder `labels` beside its images; give YOLO's data.yaml")
    return {number: str(name) for number, name in known.items()}, files


def yolo_masks(file: Path, names: dict[int, str], size_hw: tuple[int, int]) -> tuple[tuple[ReviewedMask, ...], int]:
    """A label file's masks, filled as by Ultralytics, and its number of box lines.

    Raises:
        InputError: a line is neither an outline nor a box.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error})") from error
    found, boxes = [], 0
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if len(words) == 5:
            boxes += 1
        elif words:
            try:
                found.append(_mask(words, names, size_hw))
            except (ValueError, KeyError, OverflowError) as error:
                raise InputError(f"{file}, line {number} is no outline of YOLO ({error}); mend it") from error
    return tuple(found), boxes


def _mask(words: list[str], names: dict[int, str], size_hw: tuple[int, int]) -> ReviewedMask:
    shares = np.array([float(word) for word in words[1:]])
    if len(shares) % 2 or len(shares) < 6 or not ((shares >= -_OUTSIDE) & (shares <= 1 + _OUTSIDE)).all():
        raise ValueError("it must hold three corners or more, in [0, 1]")
    height, width = size_hw
    pixels = np.stack([read_pixels(words[1::2], width), read_pixels(words[2::2], height)], axis=1)
    ring = pixels.clip([0, 0], [width - 1, height - 1])
    (rle,) = fill_pixel_polygons([ring], size_hw)
    return ReviewedMask(rle, names[int(words[0])], None)
