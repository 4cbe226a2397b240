"""Which annotated pictures `nano` learns from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth import (
    AnnotatedPicture,
    PictureReference,
    bsds_pictures,
    coco_instance_pictures,
    coco_panoptic_pictures,
    object_pictures,
    voc_pictures,
)
from everymask.evaluation.ground_truth.records import read_picture

_READERS: dict[str, tuple[str, Callable[[Path], list[PictureReference]]]] = {
    "coco_panoptic": ("coco_panoptic/train", coco_panoptic_pictures),
    "coco_instances": ("coco_instances/train", coco_instance_pictures),
    "bsds500": ("bsds500/train", bsds_pictures),
    "voc": ("voc", partial(voc_pictures, split="train")),
    "voc_aug": ("voc", partial(voc_pictures, split="train_aug")),
    "weizmann": ("objects/weizmann", object_pictures),
    "davis": ("objects/davis", object_pictures),
    "clothing": ("objects/clothing", object_pictures),
}
"""Folder and reader by source."""
SOURCES = tuple(_READERS)


def training_pictures(data: Path, source: str) -> list[PictureReference]:
    """Pictures of a source to learn from, in a fixed order.

    Raises:
        ConfigurationError: the source is unknown, or the folder of ground truth does not hold it.
    """
    if source not in _READERS:
        raise ConfigurationError(f"source {source!r} is unknown; choose from {', '.join(SOURCES)}")
    folder, read = _READERS[source]
    if not (data / folder).is_dir():
        raise ConfigurationError(f"no ground truth at {data / folder}; give the folder that holds {folder} with --data")
    return read(data / folder)


def unlabelled_pictures(folder: Path) -> list[PictureReference]:
    """Every picture below a folder, without annotation: more for the encoder to see."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    names = [f"{folder.name}/{path.relative_to(folder).with_suffix('')}" for path in files]
    return [
        PictureReference(name, partial(_read_unlabelled, path, name)) for path, name in zip(files, names, strict=True)
    ]


def _read_unlabelled(path: Path, name: str) -> AnnotatedPicture:
    return AnnotatedPicture(name, read_picture(path), (), complete=False)
