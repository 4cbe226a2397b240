"""The annotated pictures that `nano` learns from, and how often."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth import (
    PictureReference,
    bsds_pictures,
    coco_instance_pictures,
    coco_panoptic_pictures,
    object_pictures,
    voc_pictures,
)

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
VIEWS = {
    "coco_panoptic": 5.0,
    "coco_instances": 2.0,
    "bsds500": 3.0,
    "voc": 0.5,
    "voc_aug": 0.1,
    "weizmann": 0.2,
    "davis": 0.34,
    "clothing": 0.25,
}
"""Random views per picture of each source: fully annotated scenes teach more than single objects."""


def training_pictures(data: Path, source: str) -> list[PictureReference]:
    """A source's training pictures in a fixed order.

    Raises:
        ConfigurationError: the source is unknown, or missing from the folder of ground truth.
    """
    if source not in _READERS:
        raise ConfigurationError(f"source {source!r} is unknown; choose from {', '.join(SOURCES)}")
    folder, read = _READERS[source]
    if not (data / folder).is_dir():
        raise ConfigurationError(f"no ground truth at {data / folder}; give the folder that holds {folder} with --data")
    return read(data / folder)


def planned_views(pictures: list[PictureReference], factor: float) -> list[tuple[PictureReference, int]]:
    """The views to learn from: on average `VIEWS` times `factor` of each picture.

    First views come first, so any beginning of the list draws on all sources.
    """
    planned: list[tuple[PictureReference, int]] = []
    due: dict[str, float] = {}
    for picture in pictures:
        source = picture.name.split("/")[0]
        due[source] = due.get(source, 0.0) + VIEWS[source] * factor
        count = int(due[source] + 1e-9)
        due[source] -= count
        planned += [(picture, view) for view in range(count)]
    return sorted(planned, key=lambda pair: pair[1])
