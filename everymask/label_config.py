"""What is to be done to images. Imports no model code: a job's driver describes the work and never does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from everymask.classes.config import ClassesConfig
from everymask.entities.config import AmgConfig, EntityConfig


@dataclass(frozen=True)
class LabelConfig:
    """What is done to every image of a run or a service."""

    method: Literal["entities", "classes", "amg"] = "entities"
    """entities: E-SAM; classes: U-SAM, needs a class head; amg: the automatic mask generator of SAM, masks overlap."""
    entities: EntityConfig = field(default_factory=EntityConfig)
    amg: AmgConfig = field(default_factory=AmgConfig)
    classes: ClassesConfig = field(default_factory=ClassesConfig)
