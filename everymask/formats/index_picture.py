"""An image's masks as trainers load them: a picture with value k for the k-th mask, and a list of objects.

Each pixel has one value, so masks that lie partly below another also have run lengths, in a column of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from everymask.errors import ConfigurationError
from everymask.formats.class_names import ClassNames
from everymask.formats.flat_png import flat_png
from everymask.formats.format import ExportedImage
from everymask.masks.painting import painted
from everymask.masks.rle import encode_label_map
from everymask.records import ImageLabels, Rle

_MAX_MASKS = 65_535


@dataclass(frozen=True)
class IndexedImage:
    """One image's masks.

    Attributes:
        png: the index picture, 8-bit for up to 255 masks, else 16-bit: 0 is background, k the k-th mask.
        objects: for each mask its `id`, `category` (from 0), `label` (the category's name), `bbox` (x, y, width, height
            in pixels), `area` in pixels, `score`, and `counts`: COCO's compressed run lengths if the picture does not
            show the whole mask, else None.
        written: the masks as a reader of both gets them.
    """

    png: bytes
    objects: list[dict[str, Any]]
    written: list[Rle]


def indexed(labels: ImageLabels, names: ClassNames, image_id: str) -> IndexedImage:
    """The index picture and objects of an image's masks; ConfigurationError above 65,535 masks."""
    masks = labels.masks
    if len(masks) > _MAX_MASKS:
        raise ConfigurationError(
            f"{image_id} has {len(masks):,} masks, an index picture holds {_MAX_MASKS:,}; export it as coco"
        )
    picture = painted(
        labels, np.array([*range(1, len(masks) + 1), 0], dtype=np.uint8 if len(masks) < 256 else np.uint16)
    )
    _, *shown = encode_label_map(picture, len(masks) + 1)
    objects, written = [], []
    for mask, visible in zip(masks, shown, strict=True):
        x0, y0, x1, y1 = mask.box_xyxy
        hidden = visible["counts"] != mask.rle["counts"]
        objects.append(
            {
                "id": mask.mask_id,
                "category": names.index(mask),
                "label": names.name(mask),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": mask.area,
                "score": mask.score,
                "counts": mask.rle["counts"] if hidden else None,
            }
        )
        written.append(mask.rle if hidden else visible)
    return IndexedImage(flat_png(picture), objects, written)


def described(exported: ExportedImage, objects: list[dict[str, Any]]) -> dict[str, Any]:
    """An image's metadata besides its pictures."""
    height, width = exported.labels.size_hw
    return {"image_id": exported.image.image_id, "width": width, "height": height, "objects": objects}
