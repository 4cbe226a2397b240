"""What is to be done to images. Imports no model code: a job's driver describes the work and never does it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from everymask.classes.config import ClassesConfig, ClipConfig
from everymask.entities.config import AmgConfig, EntityConfig

Method = Literal["entities", "classes", "clip", "amg"]
"""entities: E-SAM; classes: U-SAM, needs a class head; clip: SAM + CLIP, names without exemplars; amg: the automatic
mask generator of SAM, masks overlap."""


@dataclass(frozen=True)
class LabelConfig:
    """What is done to every image of a run or a service."""

    method: Method = "entities"
    """Which of the configurations below is read."""
    entities: EntityConfig = field(default_factory=EntityConfig)
    amg: AmgConfig = field(default_factory=AmgConfig)
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
