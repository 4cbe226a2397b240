"""Annotated pictures of COCO panoptic, COCO instances and BSDS500, brought to one form."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from everymask.errors import ConfigurationError

UNLABELLED = -1
SOURCES = ("coco_panoptic", "coco_instances", "bsds500")


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture and its segmentations.

    Attributes:
        name: unique among all sources, e.g. `bsds500/train/100075`.
        image: (H, W, 3) uint8 RGB.
        label_maps: one or more (H, W) int32 maps, one an annotator; `UNLABELLED` where nobody said anything.
        complete: whether every pixel of a segment's surroundings was judged (false for COCO instances).
    """

    name: str
    image: NDArray[np.uint8]
    label_maps: tuple[NDArray[np.int32], ...]
    complete: bool


@dataclass(frozen=True)
class PictureReference:
    """A picture that is read when it is needed; picklable."""

    name: str
    read: Callable[[], AnnotatedPicture]


def list_pictures(data: Path, split: str, sources: tuple[str, ...] = SOURCES) -> list[PictureReference]:
    """References to all pictures of `split` (`train` or `val`) in the folder of ground truth, in a fixed order.

    Raises:
        ConfigurationError: a source's folder is missing, or a source is unknown.
    """
    readers = {"coco_panoptic": _panoptic, "coco_instances": _instances, "bsds500": _bsds}
    references: list[PictureReference] = []
    for source in sources:
        if source not in readers:
            raise ConfigurationError(f"source {source!r} is unknown; choose from {', '.join(SOURCES)}")
        folder = data / source / split
        if not folder.is_dir():
            raise ConfigurationError(f"no ground truth at {folder}; give the folder that holds {source}/ with --data")
        references += readers[source](folder, f"{source}/{split}")
    return references


def read_image(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _panoptic(folder: Path, prefix: str) -> list[PictureReference]:
    annotations = json.loads((folder / "panoptic.json").read_text())["annotations"]
    files = sorted(annotation["file_name"] for annotation in annotations)
    names = [f"{prefix}/{Path(file).stem}" for file in files]
    return [
        PictureReference(name, partial(_read_panoptic, folder, file, name))
        for file, name in zip(files, names, strict=True)
    ]


def _read_panoptic(folder: Path, file_name: str, name: str) -> AnnotatedPicture:
    colour = read_image(folder / "panoptic" / file_name).astype(np.int32)
    ids = colour @ np.array([1, 256, 65536], dtype=np.int32)
    values, compact = np.unique(ids, return_inverse=True)
    labels = compact.reshape(ids.shape).astype(np.int32) - (1 if values[0] == 0 else 0)
    image = read_image(folder / "images" / Path(file_name).with_suffix(".jpg"))
    return AnnotatedPicture(name, image, (labels,), complete=True)


def _instances(folder: Path, prefix: str) -> list[PictureReference]:
    content = json.loads((folder / "instances.json").read_text())
    by_image: dict[int, list[Any]] = {}
    for annotation in content["annotations"]:
        if not annotation.get("iscrowd"):
            by_image.setdefault(annotation["image_id"], []).append(annotation["segmentation"])
    references = []
    for entry in sorted(content["images"], key=lambda entry: str(entry["file_name"])):
        path = folder / "images" / Path(entry["file_name"]).name
        name = f"{prefix}/{path.stem}"
        references.append(PictureReference(name, partial(_read_instances, path, by_image.get(entry["id"], []), name)))
    return references


def _read_instances(path: Path, segmentations: list[Any], name: str) -> AnnotatedPicture:
    image = read_image(path)
    height, width = image.shape[:2]
    masks = [_decode(segmentation, height, width) for segmentation in segmentations]
    # Small instances lie in front of the large ones that they overlap.
    labels = np.full((height, width), UNLABELLED, dtype=np.int32)
    for index, mask in enumerate(sorted(masks, key=lambda m: -int(m.sum()))):
        labels[mask] = index
    return AnnotatedPicture(name, image, (labels,), complete=False)


def _decode(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    if isinstance(segmentation, list):
        encoded = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        encoded = coco_mask.frPyObjects(segmentation, height, width)
    else:
        encoded = segmentation
    return np.asarray(coco_mask.decode(encoded), dtype=bool)


def _bsds(folder: Path, prefix: str) -> list[PictureReference]:
    references = []
    for path in sorted((folder / "images").glob("*.jpg")):
        name = f"{prefix}/{path.stem}"
        references.append(PictureReference(name, partial(_read_bsds, path, folder / "segments", name)))
    return references


def _read_bsds(path: Path, segments: Path, name: str) -> AnnotatedPicture:
    maps = []
    for file in sorted(segments.glob(f"{path.stem}_*.png")):
        with Image.open(file) as picture:
            maps.append(np.asarray(picture).astype(np.int32))
    return AnnotatedPicture(name, read_image(path), tuple(maps), complete=True)


def unlabelled_pictures(folder: Path) -> list[PictureReference]:
    """Every picture below a folder, without annotation: more for the encoder to see."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    names = [f"{folder.name}/{path.relative_to(folder).with_suffix('')}" for path in files]
    return [
        PictureReference(name, partial(_read_unlabelled, path, name)) for path, name in zip(files, names, strict=True)
    ]


def _read_unlabelled(path: Path, name: str) -> AnnotatedPicture:
    return AnnotatedPicture(name, read_image(path), (), complete=False)
