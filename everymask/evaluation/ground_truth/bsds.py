"""Human segmentations of BSDS500."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth.records import AnnotatedPicture, PictureReference, read_picture


def read_bsds(folder: Path) -> dict[str, list[NDArray[np.int64]]]:
    """Human segmentations by image file name: one complete (H, W) label map per annotator.

    `folder` holds `images/ID.jpg` and `segments/ID_K.png`, annotator K's 16-bit label map; else ConfigurationError.
    """
    return {
        f"{name}.jpg": [_label_map(path).astype(np.int64) for path in paths] for name, paths in _files(folder).items()
    }


def bsds_pictures(folder: Path) -> list[PictureReference]:
    """Pictures of a folder as in `read_bsds`, by name, with one label map per annotator. Same errors."""
    prefix = f"bsds500/{folder.name}"
    return [
        PictureReference(f"{prefix}/{name}", partial(_read, folder / "images" / f"{name}.jpg", paths, prefix))
        for name, paths in _files(folder).items()
    ]


def _files(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted((folder / "segments").glob("*_*.png")):
        files.setdefault(path.stem.rsplit("_", 1)[0], []).append(path)
    if not files:
        raise ConfigurationError(f"{folder} holds no segments/ID_K.png; give the folder of BSDS500 segmentations")
    return files


def _label_map(path: Path) -> NDArray[np.int32]:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(np.int32)


def _read(image: Path, segments: list[Path], prefix: str) -> AnnotatedPicture:
    maps = tuple(_label_map(path) for path in segments)
    return AnnotatedPicture(f"{prefix}/{image.stem}", read_picture(image), maps, complete=True)
