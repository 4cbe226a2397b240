"""Label maps of single objects and their parts: the layout of the Weizmann horses, DAVIS frames and clothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import measure

from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth.records import UNLABELLED, AnnotatedPicture, PictureReference, read_picture

_MIN_PART_PX = 60
"""Smaller connected pieces of a part stay unlabelled."""


def object_pictures(folder: Path) -> list[PictureReference]:
    """Pictures by name, with the whole object as one label map and its parts, if any, as a second.

    `folder` holds `images/*.jpg` and 8-bit `labels/*.png`: 0 is background, other values are kinds of parts. Otherwise
    ConfigurationError.
    """
    names = sorted(path.stem for path in (folder / "labels").glob("*.png"))
    if not names:
        raise ConfigurationError(f"{folder} holds no labels/*.png; give a folder of objects and their label maps")
    return [PictureReference(f"{folder.name}/{name}", partial(_read, folder, name)) for name in names]


def _read(folder: Path, name: str) -> AnnotatedPicture:
    with Image.open(folder / "labels" / f"{name}.png") as picture:
        values = np.asarray(picture).astype(np.int32)
    maps = [np.where(values > 0, 0, UNLABELLED).astype(np.int32)]
    if values.max() > 1:
        # A left and a right shoe share a value, but are two parts.
        parts: NDArray[np.int64] = measure.label(values, background=0, connectivity=2)  # type: ignore[no-untyped-call]
        small = np.bincount(parts.reshape(-1)) < _MIN_PART_PX
        maps.append(np.where((values == 0) | small[parts], UNLABELLED, parts).astype(np.int32))
    image = read_picture(folder / "images" / f"{name}.jpg")
    return AnnotatedPicture(f"{folder.name}/{name}", image, tuple(maps), complete=False)
