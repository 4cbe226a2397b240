"""Label maps as PNG files, one for each image, named `IMAGE_ID.png`.

- `semantic-png`: 8-bit palette, 0 is background and class_id + 1 a class; `classes.json` names the values.
- `entity-png`: 16-bit grey, 0 is background and k the k-th mask of the image's row, in descending score.
"""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ConfigurationError
from everymask.formats.exported import (
    ExportCounts,
    class_of,
    dense_names,
    known_class_names,
    labelled_images,
    relative_path,
)
from everymask.labels.store import LabelStore
from everymask.masks.rle import decode_mask
from everymask.pictures.colours import mask_colours
from everymask.records import ImageLabels
from everymask.storage import resolve, write_whole

_MAX_CLASSES = 255
_MAX_ENTITIES = 65_535


def semantic_map(labels: ImageLabels) -> NDArray[np.uint8]:
    """(H, W) uint8 class map: class_id + 1, 0 where there is no mask; the higher score wins an overlap.

    Raises:
        ConfigurationError: masks without a class, or more than 255 classes.
    """
    classes = np.zeros(labels.size_hw, dtype=np.uint8)
    for mask in reversed(labels.masks):
        if mask.class_id is None:
            raise ConfigurationError("these labels are entities and have no classes; export them as entity-png")
        if mask.class_id >= _MAX_CLASSES:
            raise ConfigurationError(f"a semantic PNG holds {_MAX_CLASSES} classes, not {mask.class_id + 1}; use coco")
        classes[decode_mask(mask.rle)] = mask.class_id + 1
    return classes


def entity_map(labels: ImageLabels) -> NDArray[np.uint16]:
    """(H, W) uint16 entity map: k for the k-th mask from 1, 0 where there is none; the higher score wins an overlap.

    Raises:
        ConfigurationError: more than 65,535 masks.
    """
    if len(labels.masks) > _MAX_ENTITIES:
        raise ConfigurationError(f"an entity PNG holds {_MAX_ENTITIES:,} masks, not {len(labels.masks):,}; use coco")
    entities = np.zeros(labels.size_hw, dtype=np.uint16)
    for number in range(len(labels.masks), 0, -1):
        entities[decode_mask(labels.masks[number - 1].rle)] = number
    return entities


def to_semantic_png(store: LabelStore, output: str) -> ExportCounts:
    """Write a class map for every labelled image, and classes.json.

    Raises:
        InputError: there is no label store.
        ConfigurationError: the store holds entities, too many classes, or mixes class lists.
        OutputError: the folder cannot be written.
    """
    names = known_class_names(store)
    filesystem, folder = resolve(output)
    images = masks = 0
    for image, labels in labelled_images(store):
        for mask in labels.masks:
            class_of(mask, names)
        picture = Image.fromarray(semantic_map(labels))
        picture.putpalette(_palette())
        write_whole(filesystem, f"{folder}/{relative_path(image.image_id)}.png", _png(picture))
        images, masks = images + 1, masks + len(labels.masks)
    values = {"0": "background"} | {str(index + 1): name for index, name in enumerate(dense_names(names))}
    write_whole(filesystem, f"{folder}/classes.json", (json.dumps(values, indent=2) + "\n").encode())
    return ExportCounts(images, masks, store.summary().errors)


def to_entity_png(store: LabelStore, output: str) -> ExportCounts:
    """Write an entity map for every labelled image.

    Raises:
        InputError: there is no label store.
        ConfigurationError: an image has too many masks.
        OutputError: the folder cannot be written.
    """
    filesystem, folder = resolve(output)
    images = masks = 0
    for image, labels in labelled_images(store):
        data = _png(Image.fromarray(entity_map(labels)))
        write_whole(filesystem, f"{folder}/{relative_path(image.image_id)}.png", data)
        images, masks = images + 1, masks + len(labels.masks)
    return ExportCounts(images, masks, store.summary().errors)


def _palette() -> list[int]:
    return [0, 0, 0, *mask_colours(_MAX_CLASSES).ravel().tolist()]


def _png(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
