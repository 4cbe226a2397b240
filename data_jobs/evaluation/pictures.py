"""Ground truth, and the places of its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_jobs.evaluation.config import EntitiesConfig, StoredConfig
from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth import EntityTruth, read_coco_panoptic, read_entityseg
from everymask.images.decoding import decode_image


@dataclass(frozen=True)
class EntityPicture:
    """An annotated picture that can be labelled."""

    name: str
    path: Path
    truth: EntityTruth


def entity_truth(config: StoredConfig) -> dict[str, EntityTruth]:
    """Entities by file name without folders, as label stores are matched.

    Raises:
        ConfigurationError: unusable ground truth, or two images of the same name.
    """
    truth: dict[str, EntityTruth] = {}
    for name, image in _annotated(config).items():
        if Path(name).name in truth:
            raise ConfigurationError(f"two annotated images are named {Path(name).name}; evaluate one folder at a time")
        truth[Path(name).name] = image
    return truth


def entity_pictures(config: EntitiesConfig) -> list[EntityPicture]:
    """The first `--limit` annotated pictures by name.

    Raises:
        ConfigurationError: unusable ground truth, or a missing picture.
    """
    pictures = [
        EntityPicture(name, picture_path(config.path, name), truth)
        for name, truth in sorted(_annotated(config).items())[: config.limit]
    ]
    if not pictures:
        raise ConfigurationError(f"{config.path} holds no annotated image; give another folder")
    return pictures


def _annotated(config: StoredConfig | EntitiesConfig) -> dict[str, EntityTruth]:
    if config.ground_truth == "entityseg":
        assert config.annotations is not None
        return read_entityseg(config.annotations)
    return read_coco_panoptic(config.path)


def annotated_image(path: Path, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The annotated picture, (H, W, 3) uint8 RGB.

    Raises:
        InputError: it cannot be read.
        ConfigurationError: it has another size than its annotation.
    """
    image = decode_image(path.read_bytes())
    if image.shape[:2] != size_hw:
        raise ConfigurationError(
            f"{path} has {image.shape[1]} x {image.shape[0]} pixels, its annotation {size_hw[1]} x {size_hw[0]}; give "
            "the pictures that were annotated"
        )
    return image


def picture_path(folder: Path, name: str) -> Path:
    """An annotated picture's file in the folder of its ground truth; ConfigurationError if it is missing."""
    for path in (folder / "images" / name, folder / "JPEGImages" / name, folder / name):
        if path.is_file():
            return path
    raise ConfigurationError(f"{folder / name} is annotated but not there; --path needs the images too")
