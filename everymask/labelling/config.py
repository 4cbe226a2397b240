"""What is to be done to images. Imports no model code: a job's driver describes the work and never does it."""

from __future__ import annotations

from dataclasses import dataclass, field

from everymask.classes.config import ClassesConfig, ClipConfig, ConceptsConfig
from everymask.entities.config import AmgConfig, EntityConfig
from everymask.errors import ConfigurationError
from everymask.labelling.methods.table import MethodName, find_method


@dataclass(frozen=True)
class LabelConfig:
    """What is done to every image of a run or a service.

    Examples:
        >>> config = everymask.LabelConfig(method="amg", min_region_area=50)
        >>> config.amg.points_per_side
        32
        >>> labels = everymask.label("photo.jpg", config=config)
    """

    method: MethodName = "entities"
    """entities: every entity once (E-SAM); classes: your classes (U-SAM), with a class head; clip: SAM's masks named by
    CLIP, with names and no exemplars; concepts: all that your names describe, by SAM 3 (--model sam3); amg: SAM's
    automatic masks, which overlap."""
    entities: EntityConfig = field(default_factory=EntityConfig)
    amg: AmgConfig = field(default_factory=AmgConfig)
    classes: ClassesConfig = field(default_factory=ClassesConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    concepts: ConceptsConfig = field(default_factory=ConceptsConfig)
    min_region_area: int = 0
    """Connected parts and holes of masks under this many pixels are removed; 0 leaves masks as they are."""
    max_region_area: int | None = None
    """Masks of more pixels than this are left out. None: none are."""
    tiles: int = 1
    """Tiles along a picture's longer side that are labelled beside the whole, for large pictures with small things.
    Each is encoded anew, so a service has none."""

    def __post_init__(self) -> None:
        find_method(self.method)
        if self.min_region_area < 0:
            raise ConfigurationError(f"min_region_area must not be negative; got {self.min_region_area}")
        if self.max_region_area is not None and self.max_region_area < max(1, self.min_region_area):
            raise ConfigurationError(
                f"max_region_area must be at least 1 and at least min_region_area; got {self.max_region_area}"
            )
        if self.tiles < 1:
            raise ConfigurationError(f"tiles is {self.tiles}; it must be at least 1, which is the whole picture")
        if self.tiles > 1 and self.method == "amg" and self.amg.crop_n_layers:
            raise ConfigurationError(
                "tiles and amg.crop_n_layers both cut the picture into parts; leave one of them out"
            )
