"""Readers of ground truth: entities of COCO panoptic annotations, and human segmentations of BSDS500."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everymask.errors import ConfigurationError
from everymask.masks.rle import encode_label_map
from everymask.records import Rle


@dataclass(frozen=True)
class EntityTruth:
    """Every entity of one image.

    Attributes:
        size_hw: (height, width) in pixels.
        entities: disjoint masks.
        iscrowd: for each, whether it is a group that predictions are neither right nor wrong on.
    """

    size_hw: tuple[int, int]
    entities: tuple[Rle, ...]
    iscrowd: tuple[bool, ...]


def read_coco_panoptic(folder: Path) -> dict[str, EntityTruth]:
    """Entities by image file name: every thing and every stuff segment of `panoptic.json` and `panoptic/*.png`.

    Args:
        folder: holds `panoptic.json` and `panoptic/`; ids in the PNG files are R + 256 G + 65536 B.

    Raises:
        ConfigurationError: the folder does not hold that.
    """
    annotations = folder / "panoptic.json"
    if not annotations.is_file():
        raise ConfigurationError(f"{folder} holds no panoptic.json; give the folder of COCO panoptic annotations")
    content = json.loads(annotations.read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    truth = {}
    for annotation in content["annotations"]:
        ids = _panoptic_ids(folder / "panoptic" / annotation["file_name"])
        segments = annotation["segments_info"]
        known = np.array([segment["id"] for segment in segments], dtype=np.int64)
        label_map = np.full(ids.shape, -1, dtype=np.int64)
        order = np.argsort(known)
        position = np.searchsorted(known[order], ids).clip(max=max(len(known) - 1, 0))
        if len(known):
            found = known[order][position] == ids
            label_map[found] = order[position][found]
        truth[names[annotation["image_id"]]] = EntityTruth(
            size_hw=(ids.shape[0], ids.shape[1]),
            entities=tuple(encode_label_map(label_map, len(known))),
            iscrowd=tuple(bool(segment["iscrowd"]) for segment in segments),
        )
    return truth


def read_bsds(folder: Path) -> dict[str, list[NDArray[np.int64]]]:
    """Human segmentations by image file name: for each annotator an (H, W) label map in which every pixel is labelled.

    Args:
        folder: holds `images/ID.jpg` and `segments/ID_K.png`, the 16-bit label map of annotator K.

    Raises:
        ConfigurationError: the folder does not hold that.
    """
    truth: dict[str, list[NDArray[np.int64]]] = {}
    for path in sorted((folder / "segments").glob("*_*.png")):
        name = path.stem.rsplit("_", 1)[0] + ".jpg"
        truth.setdefault(name, []).append(np.asarray(Image.open(path)).astype(np.int64))
    if not truth:
        raise ConfigurationError(f"{folder} holds no segments/ID_K.png; give the folder of BSDS500 segmentations")
    return truth


def _panoptic_ids(path: Path) -> NDArray[np.int64]:
    """(H, W) segment ids."""
    if not path.is_file():
        raise ConfigurationError(f"{path} is named by panoptic.json but is not there; restore it")
    rgb = np.asarray(Image.open(path).convert("RGB")).astype(np.int64)
    ids: NDArray[np.int64] = rgb @ np.array([1, 256, 65536])
    return ids
