"""What two programs are asked, and what they answer, as files: the publisher's may need another environment."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from everymask.backbone.models import PrecisionSetting
from everymask.records import Rle

_PLACES = (1 / 6, 1 / 2, 5 / 6)


@dataclass(frozen=True)
class Task:
    """One program's instructions.

    Attributes:
        model: name in the table of models.
        checkpoint: file of the weights.
        makes_weights: whether the program writes random weights there first.
        device: cpu, cuda or cuda:N.
        pictures: `.npz` of (H, W, 3) uint8 RGB pictures by name.
        points_per_side: of the grid of automatic masks.
        thresholds: settings of automatic masks by SAM's names; None: the publisher's, or for random weights such that
            some masks pass.
        answers: where the answers go.
        precision: what is asked of everymask; the publishers compute in fp32.
        finds_entities: whether everymask finds entities, too; of random weights they would say nothing.
    """

    model: str
    checkpoint: str
    makes_weights: bool
    device: str
    pictures: str
    points_per_side: int
    thresholds: Mapping[str, float] | None
    answers: str
    precision: PrecisionSetting = "auto"
    finds_entities: bool = True

    @classmethod
    def read(cls, path: str | Path) -> Task:
        return cls(**json.loads(Path(path).read_text()))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    def load_pictures(self) -> dict[str, NDArray[np.uint8]]:
        with np.load(self.pictures) as arrays:
            return {name: arrays[name] for name in arrays.files}


@dataclass
class PictureAnswers:
    """A program's answers for one picture.

    Attributes:
        masks: three for each of `click_points`, at the picture's resolution.
        predicted_iou: of these.
        automatic: the automatic masks, without empty ones; None where the publisher has none.
        entities: number of E-SAM's entities; None where they were not asked for.
        coverage: share of the picture in them.
    """

    masks: list[list[Rle]]
    predicted_iou: list[list[float]]
    automatic: list[Rle] | None = None
    entities: int | None = None
    coverage: float | None = None


@dataclass
class Answers:
    """A program's answers.

    Attributes:
        code: package and version.
        precision: number format of the image encoder.
        weights_sha256: of the file of weights; "" of the publisher.
        thresholds: with which automatic masks were made.
        pictures: by name.
        seconds: by stage, of all pictures.
        memory_bytes: most memory of the process, its libraries included.
        gpu_memory_bytes: most memory of tensors on the GPU; 0 without one.
    """

    code: str
    precision: str
    weights_sha256: str = ""
    thresholds: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, PictureAnswers] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    memory_bytes: int = 0
    gpu_memory_bytes: int = 0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add a block's seconds to a stage, the GPU's work included."""
        began = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def write(self, path: str | Path) -> None:
        """Write them, with the memory that was taken until now."""
        unit = 1 if sys.platform == "darwin" else 1024
        self.memory_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        if torch.cuda.is_available():
            self.gpu_memory_bytes = torch.cuda.max_memory_allocated()
        Path(path).write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Answers:
        values: dict[str, Any] = json.loads(Path(path).read_text())
        pictures = {name: PictureAnswers(**picture) for name, picture in values.pop("pictures").items()}
        return cls(**values, pictures=pictures)


def click_points(size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """The (9, 2) clicks (x, y) on a picture, in pixels."""
    height, width = size_hw
    return np.array([(x * width, y * height) for y in _PLACES for x in _PLACES])
