"""Ground truth of entities, and where its pictures are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_jobs.evaluation.config import EntitiesConfig, StoredConfig
from everymask.errors import ConfigurationError
from everymask.evaluation.ground_truth import EntityTruth, read_coco_panoptic, read_entityseg


@dataclass(frozen=True)
class EntityPicture:
    """An annotated picture that can be labelled."""

    name: str
    path: Path
    truth: EntityTruth


def entity_truth(config: StoredConfig) -> dict[str, EntityTruth]:
    """Entities by file name, without folders, as label stores are matched.

    Raises:
        ConfigurationError: ground truth that cannot be used, or two images of the same name.
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
        ConfigurationError: ground truth that cannot be used, or a picture that is not there.
    """
    pictures = [
        EntityPicture(name, _place(config.path, name), truth)
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


def _place(folder: Path, name: str) -> Path:
    for path in (folder / "images" / name, folder / name):
        if path.is_file():
            return path
    raise ConfigurationError(f"{folder / name} is annotated but not there; --path needs the images too")
