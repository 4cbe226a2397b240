"""Label maps as PNG files named `IMAGE_ID.png`, one for each image.

- `semantic-png`: 8-bit, 0 background, class_id + 1 a class; `classes.json` names the values. With a palette for people,
  or plain grey for readers that would convert a palette to brightness.
- `entity-png`: 16-bit grey, 0 background, k the k-th mask of the image's row, in descending score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ConfigurationError
from everymask.formats.format import Destination, Ended, ExportedImage, ExportOptions, Format, Keeps, Naming
from everymask.formats.naming import relative_path
from everymask.masks.painting import label_map_by_score, semantic_map
from everymask.masks.rle import decode_mask, encode_label_map, encode_mask
from everymask.pictures.colours import mask_colours
from everymask.records import ImageLabels, Rle

_MAX_CLASSES = 255
_MAX_ENTITIES = 65_535


def class_map(labels: ImageLabels) -> NDArray[np.uint8]:
    """`semantic_map` as uint8.

    Raises:
        ConfigurationError: masks without a class, or more than 255 classes.
    """
    for mask in labels.masks:
        if mask.class_id is None:
            raise ConfigurationError("these labels are entities and have no classes; export them as entity-png")
        if mask.class_id >= _MAX_CLASSES:
            raise ConfigurationError(f"a semantic PNG holds {_MAX_CLASSES} classes, not {mask.class_id + 1}; use coco")
    return semantic_map(labels).astype(np.uint8)


def entity_map(labels: ImageLabels) -> NDArray[np.uint16]:
    """(H, W) uint16 map: k for the k-th mask from 1, 0 for none; the higher score wins an overlap.

    Raises:
        ConfigurationError: more than 65,535 masks.
    """
    if len(labels.masks) > _MAX_ENTITIES:
        raise ConfigurationError(f"an entity PNG holds {_MAX_ENTITIES:,} masks, not {len(labels.masks):,}; use coco")
    return (label_map_by_score(labels) + 1).astype(np.uint16)


class SemanticPngWriter:
    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination
        self._palette = options.segmentation == "palette"

    def add(self, exported: ExportedImage) -> list[Rle]:
        """Write a class map. It merges the masks of a class, so each mask is measured as its share of the merged
        one."""
        classes = class_map(exported.labels)
        picture = Image.fromarray(classes)
        if self._palette:
            picture.putpalette([0, 0, 0, *mask_colours(_MAX_CLASSES).ravel().tolist()])
        _save(picture, self._destination, exported.name)
        return [
            encode_mask(decode_mask(mask.rle) & (classes == (mask.class_id or 0) + 1)) for mask in exported.labels.masks
        ]

    def end(self) -> Ended:
        return Ended()


def _write_classes(destination: Destination, options: ExportOptions, ended: Sequence[Ended]) -> None:
    values = {"0": "background"} | {str(index + 1): name for index, name in enumerate(destination.names.dense())}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    (destination.folder / "classes.json").write_text(text, encoding="utf-8")


class EntityPngWriter:
    def __init__(self, destination: Destination, options: ExportOptions) -> None:
        self._destination = destination

    def add(self, exported: ExportedImage) -> list[Rle]:
        entities = entity_map(exported.labels)
        _save(Image.fromarray(entities), self._destination, exported.name)
        return encode_label_map(entities.astype(np.int32) - 1, len(exported.labels.masks))

    def end(self) -> Ended:
        return Ended()


def _save(picture: Image.Image, destination: Destination, name: str) -> None:
    path = destination.folder / f"{relative_path(name)}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "PNG")


SEMANTIC_PNG = Format(
    name="semantic-png",
    summary="class maps, an 8-bit PNG for each image, value class_id + 1: MMSegmentation and most semantic trainers",
    suffix="",
    naming=Naming.PATH,
    keeps=frozenset({Keeps.HOLES, Keeps.PARTS}),
    exact=True,
    writer=SemanticPngWriter,
    close=_write_classes,
    segmentations=("palette", "grey"),
    draws_masks=True,
)
ENTITY_PNG = Format(
    name="entity-png",
    summary="entity maps, a 16-bit PNG for each image, value k for the k-th mask: any image library",
    suffix="",
    naming=Naming.PATH,
    keeps=frozenset({Keeps.HOLES, Keeps.PARTS}),
    exact=True,
    writer=EntityPngWriter,
    draws_masks=True,
)
