"""What every export needs of a label store: its classes, its labelled images, and a safe file name for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from everymask.errors import ConfigurationError
from everymask.labels.provenance import read_run
from everymask.labels.rows import LabelledImage
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels, LabelledMask

ENTITY_CLASS = "entity"
"""The one class of masks that have none."""


@dataclass(frozen=True)
class ExportCounts:
    """What an export wrote.

    Attributes:
        images: labelled images.
        masks: masks in them.
        errors: images left out because they have an error in place of labels.
    """

    images: int
    masks: int
    errors: int


def labelled_images(store: LabelStore) -> Iterator[tuple[LabelledImage, ImageLabels]]:
    """Images of the store that have labels, streaming.

    Raises:
        InputError: there is no label store, or it is damaged.
    """
    for image in store.images():
        if image.labels is not None:
            yield image, image.labels


def known_class_names(store: LabelStore) -> dict[int, str]:
    """Names by class_id as the run recorded them, those without a single mask included; empty for entities."""
    record = read_run(store)
    names = record.config.get("class_names") if record else None
    return dict(enumerate(names)) if names else {}


def class_of(mask: LabelledMask, names: dict[int, str]) -> int:
    """The class index of a mask, 0 for entities; `names` learns the name.

    Raises:
        ConfigurationError: one class_id has two names.
    """
    index = 0 if mask.class_id is None else mask.class_id
    name = ENTITY_CLASS if mask.class_name is None else mask.class_name
    if names.setdefault(index, name) != name:
        raise ConfigurationError(
            f"class {index} is {names[index]!r} in one row and {name!r} in another; the store mixes class heads"
        )
    return index


def dense_names(names: Mapping[int, str]) -> list[str]:
    """Names in order of their class index, gaps filled with `class N`."""
    return [names.get(index, f"class {index}") for index in range(max(names, default=-1) + 1)]


def relative_path(image_id: str) -> str:
    """An image id as a path below an export's folder: never absolute, never above it."""
    parts = [part for part in image_id.replace("\\", "/").replace("://", "/").split("/") if part not in ("", ".")]
    return "/".join("_" if part == ".." else part for part in parts)
