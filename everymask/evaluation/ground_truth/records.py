"""Records that ground truth is read into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everymask.errors import ConfigurationError
from everymask.images.decoding import decode_image
from everymask.records import Rle

UNLABELLED = -1
"""In a label map: pixels that were not annotated."""
VOID = -1
"""In a semantic map: pixels that do not count."""


@dataclass(frozen=True)
class EntityTruth:
    """Every entity of one image.

    Attributes:
        size_hw: (height, width) in pixels.
        entities: masks, disjoint in complete annotations.
        iscrowd: for each, whether it is a group, on which predictions are neither right nor wrong.
    """

    size_hw: tuple[int, int]
    entities: tuple[Rle, ...]
    iscrowd: tuple[bool, ...]


@dataclass(frozen=True)
class InstanceTruth:
    """One object of a named class.

    Attributes:
        class_id: index into the measured classes.
        area: in pixels, as annotated.
        iscrowd: whether it is a group, on which predictions are neither right nor wrong.
    """

    class_id: int
    rle: Rle
    area: float
    iscrowd: bool = False


@dataclass(frozen=True)
class ClassTruth:
    """Objects of named classes in one image.

    Attributes:
        size_hw: (height, width) in pixels.
        instances: objects of the measured classes.
        semantic: (H, W) int32: 0 background, class_id + 1, or `VOID`.
    """

    size_hw: tuple[int, int]
    instances: tuple[InstanceTruth, ...]
    semantic: NDArray[np.int32]


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture and its segmentations.

    Attributes:
        name: unique among all sources, e.g. `bsds500/train/100075`.
        image: (H, W, 3) uint8 RGB.
        label_maps: (H, W) int32 maps, one per annotator or level of detail; may hold `UNLABELLED`.
        complete: whether every pixel was judged; if not, unlabelled pixels may hold any number of segments.
        sharp: whether borders were drawn precisely enough to learn them.
    """

    name: str
    image: NDArray[np.uint8]
    label_maps: tuple[NDArray[np.int32], ...]
    complete: bool
    sharp: bool = True


@dataclass(frozen=True)
class PictureReference:
    """A picture that is read when needed. Picklable."""

    name: str
    read: Callable[[], AnnotatedPicture]


def read_picture(path: Path) -> NDArray[np.uint8]:
    """An annotated picture as (H, W, 3) uint8 RGB; ConfigurationError if the file is missing."""
    if not path.is_file():
        raise ConfigurationError(f"{path} is annotated but not there; restore it")
    return decode_image(path.read_bytes())
