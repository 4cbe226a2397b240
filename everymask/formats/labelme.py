"""LabelMe (https://labelme.io): a JSON file beside each image, `IMAGE without ending.json`.

A shape of type `mask` holds a PNG of its box; `points` are the box's first and last pixel. LabelMe keeps unknown keys,
so ids and scores come back.
"""

from __future__ import annotations

import base64
import json
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everymask.errors import InputError
from everymask.formats.class_names import ClassNames
from everymask.formats.flat_png import flat_png
from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.naming import relative_path, stem_path
from everymask.formats.png_text import open_png
from everymask.masks.labelled import rle_of_copy
from everymask.masks.runs import crops_of, rle_from_crop
from everymask.records import LabelledMask, Rle

_VERSION = "6.3.1"
REVIEWED_FLAG = "reviewed"
"""Flag that a person sets on a finished image; only then does it count as corrected."""


def labelme_shape(mask: LabelledMask, crop: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask as a shape; `crop` are its pixels inside its box."""
    x0, y0, x1, y1 = mask.box_xyxy
    return {
        "label": ClassNames.name(mask),
        "points": [[x0, y0], [x1 - 1, y1 - 1]],
        "group_id": None,
        "description": "",
        "shape_type": "mask",
        "flags": {},
        "mask": png_of_crop(crop),
        "everymask_id": mask.mask_id,
        "score": mask.score,
    }


def png_of_crop(crop: NDArray[np.bool_]) -> str:
    """(h, w) bool → a PNG in base64."""
    return base64.b64encode(flat_png(crop)).decode()


def crop_of_png(text: object, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The (h, w) bool mask of a PNG in base64; non-zero is mask.

    Raises:
        ValueError: not such a PNG, damaged, or larger than `size_hw`.
    """
    with open_png(text, size_hw) as picture:
        values = np.asarray(picture)
    mask: NDArray[np.bool_] = values.reshape(*values.shape[:2], -1).max(axis=2) > 0
    return mask


def read_mask_shape(shape: dict[str, Any], size_hw: tuple[int, int]) -> Rle:
    """The mask of a shape of type `mask`; InputError if it is damaged or reaches beyond the image."""
    try:
        crop, corner_xy = _crop_of_shape(shape, size_hw)
        return rle_from_crop(crop, corner_xy, size_hw)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise InputError(f"a mask cannot be read ({error}); redraw it") from error


def _crop_of_shape(shape: dict[str, Any], size_hw: tuple[int, int]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    x0, y0 = (int(value) for value in shape["points"][0])
    return crop_of_png(shape["mask"], size_hw), (x0, y0)


def image_beside(exported: ExportedImage) -> dict[str, Any]:
    """The image's entries in a file beside it."""
    height, width = exported.labels.size_hw
    return {
        "imagePath": PurePosixPath(relative_path(exported.name)).name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
        "everymask_image_id": exported.image.image_id,
    }


def write_beside(destination: Destination, exported: ExportedImage, content: str) -> None:
    """Write an image's file, JSON, into the folder that the image has or would have."""
    path = destination.folder / f"{stem_path(exported.name)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


class LabelMeWriter:
    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination

    def add(self, exported: ExportedImage) -> list[Rle]:
        height, width = exported.labels.size_hw
        masks = [mask for mask in exported.labels.masks if mask.area]
        crops = crops_of([mask.rle for mask in masks], [mask.box_xyxy for mask in masks])
        shapes = list(map(labelme_shape, masks, crops))
        content: dict[str, Any] = {
            "version": _VERSION,
            "flags": {REVIEWED_FLAG: False},
            "shapes": shapes,
            **image_beside(exported),
        }
        write_beside(self._destination, exported, json.dumps(content, ensure_ascii=False))
        read = iter(
            [
                rle_of_copy(*_crop_of_shape(shape, (height, width)), mask, crop)
                for shape, mask, crop in zip(shapes, masks, crops, strict=True)
            ]
        )
        return [next(read) if mask.area else mask.rle for mask in exported.labels.masks]

    def end(self) -> Ended:
        return Ended()


LABELME = Format(
    name="labelme",
    summary="LabelMe, a JSON file with mask shapes beside each image",
    suffix="",
    naming=Naming.STEM,
    keeps=frozenset(Keeps),
    exact=True,
    writer=LabelMeWriter,
    image_folder="",
)
