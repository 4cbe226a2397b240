"""How busy several images in work keep a device, without one: calls take a fixed time and let go of the interpreter.

    python benchmarks/overlap.py                                  0.1 s of host work beside 0.3 s of the device
    python benchmarks/overlap.py --method entities --regions 60   E-SAM's own refinement on drawn pictures

The first stands in for decoding and run-lengths, which also let go of the interpreter. The second answers prompts from
annotations that were worked out before, so that the host's work is what E-SAM does beside the model; `--device-seconds`
is then divided among the batches of prompts. On a machine that is busy with other work its figures mean little.

An image's host work before and after its prompts is done while the device computes for others, whatever is in work.
What it does between two batches of prompts keeps the device waiting, unless another image is in work: n images in work
give at most n / (device seconds + host seconds in between) a second. `bound` is the least of that, 1 / device seconds
and cores / host seconds.

Fails (exit 1) where fewer images than 90 % of the bound are labelled.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone, PromptMasks
from everymask.entities.config import EntityConfig
from everymask.evaluation.figure_files import write_figures
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import ImageLabeller, ImageResult, label_embedding
from everymask.labelling.overlap import OverlappedLabeller
from everymask.records import ImageLabels
from everymask.research.oracle import LIKE_SAM, OracleBackbone, drawn_scene

LEAST_SHARE = 0.9


@dataclass(frozen=True)
class OverlapBenchmark:
    """What to measure."""

    method: Literal["fixed", "entities"] = "fixed"
    """fixed: host work of a fixed time; entities: E-SAM's own."""
    device_seconds: float = 0.3
    """The device's work on an image: a tenth in its encoder, the rest in its decoder."""
    host_seconds: float = 0.1
    """Host work on an image, method fixed: half before the device's and half after it."""
    in_work: tuple[int, ...] = (1, 2, 4)
    """Images refined at once."""
    images: int = 24
    """Images labelled for each number."""
    regions: int = 60
    """Regions of a drawn picture."""
    points_per_side: int = 32
    """Clicks along each side of E-SAM's grid."""
    json: Path | None = None
    """Also write the figures to this file."""


class Device:
    """A device that does one thing at a time, for a given time."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self.busy_s = 0.0

    def compute(self, seconds: float) -> None:
        """Keep the device busy; the interpreter is free meanwhile."""
        with self._one:
            time.sleep(seconds)
            self.busy_s += seconds


class OnDevice:
    """A backbone with known answers that take the device's time."""

    def __init__(self, backbone: PromptableBackbone, device: Device) -> None:
        self._backbone = backbone
        self._device = device
        self.embed_s = self.prompts_s = 0.0
        self.batches = 0
        self._embeddings: dict[bytes, ImageEmbedding] = {}
        self._answers: dict[bytes, PromptMasks] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> list[ImageEmbedding]:
        """As asked before."""
        self._device.compute(self.embed_s * len(images))
        for image in images:
            if image.tobytes() not in self._embeddings:
                (self._embeddings[image.tobytes()],) = self._backbone.embed([image])
        return [self._embeddings[image.tobytes()] for image in images]

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        """As asked before."""
        self._device.compute(self.prompts_s)
        self.batches += 1
        asked = point_coords.numpy().tobytes()
        if asked not in self._answers:
            self._answers[asked] = self._backbone.decode_points(embedding, point_coords)
        return self._answers[asked]


class FixedSteps:
    """The steps of an `ImageLabeller`, each with a fixed time."""

    def __init__(self, device: Device, config: OverlapBenchmark) -> None:
        self._device, self._config = device, config

    def make_ready(self, backbone: PromptableBackbone, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        time.sleep(self._config.host_seconds / 2)
        return image

    def embed(self, backbone: PromptableBackbone, images: Sequence[Any]) -> list[Any]:
        self._device.compute(0.1 * self._config.device_seconds * len(images))
        return [*images]

    def label(self, backbone: PromptableBackbone, embedded: NDArray[np.uint8]) -> Any:
        self._device.compute(0.9 * self._config.device_seconds)
        time.sleep(self._config.host_seconds / 2)
        return ImageResult(ImageLabels((embedded.shape[0], embedded.shape[1]), (), 0.0))


@dataclass(frozen=True)
class Figures:
    """The result for one number of images in work.

    Attributes:
        in_work: images refined at once.
        images_per_s: labelled.
        busy: share of the time that the device computed.
        bound_per_s: most images that could be labelled.
    """

    in_work: int
    images_per_s: float
    busy: float
    bound_per_s: float

    @property
    def holds(self) -> bool:
        """Whether the rate is close to the bound."""
        return self.images_per_s >= LEAST_SHARE * self.bound_per_s


def measure(
    device: Device, labeller: Callable[[int], OverlappedLabeller], file: bytes, config: OverlapBenchmark
) -> list[Figures]:
    """Label the same file repeatedly, first one at a time, to learn the host's and the device's share of the work."""
    alone = labeller(0)
    list(alone.label([[file]]))
    began, before, refine_s = time.process_time(), device.busy_s, []
    for _ in range(3):
        refine_s += [found.spent.refine for (found,) in alone.label([[file]])]
    host_s, device_s = (time.process_time() - began) / 3, (device.busy_s - before) / 3
    host_s, between_s = (config.host_seconds, 0.0) if config.method == "fixed" else (host_s, min(refine_s))
    print(f"an image takes {device_s:.3f} s of the device and {host_s:.3f} s of a core, {between_s:.3f} s in between")
    rows = []
    for in_work in config.in_work:
        done = [time.perf_counter() for _ in labeller(in_work).label([[file]] * config.images)]
        # The middle of a run: at its ends there is nothing to overlap with.
        first, last = config.images // 4, config.images * 3 // 4
        rate = (last - first) / (done[last] - done[first])
        cores = len(os.sched_getaffinity(0))
        bound = min(1 / device_s, cores / host_s, in_work / (device_s + between_s))
        rows.append(Figures(in_work, rate, rate * device_s, bound))
    return rows


def fixed(device: Device, config: OverlapBenchmark) -> tuple[Callable[[int], OverlappedLabeller], bytes]:
    """Labellers whose every step takes a fixed time, and a file for them."""
    nothing = cast(PromptableBackbone, OracleBackbone([], LIKE_SAM))
    steps = cast(ImageLabeller, FixedSteps(device, config))
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    return lambda at_once: OverlappedLabeller(nothing, steps, at_once=at_once), as_png(image)


def with_entities(device: Device, config: OverlapBenchmark) -> tuple[Callable[[int], OverlappedLabeller], bytes]:
    """Labellers that refine as E-SAM does, and a file for them."""
    scene = drawn_scene(config.regions, (480, 640))
    model = OnDevice(OracleBackbone([scene], LIKE_SAM), device)
    side = config.points_per_side
    labels = LabelConfig(entities=EntityConfig(points_per_side=side, gallery_points_per_side=2 * side))
    backbone = cast(PromptableBackbone, model)
    embedding = backbone.embed([scene.image])[0]
    label_embedding(backbone, embedding, labels)
    model.embed_s, model.prompts_s = 0.1 * config.device_seconds, 0.9 * config.device_seconds / model.batches
    return lambda at_once: OverlappedLabeller(backbone, ImageLabeller(labels), at_once=at_once), as_png(scene.image)


def as_png(image: NDArray[np.uint8]) -> bytes:
    """The file of a picture."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def main() -> int:
    """The command; returns its exit code."""
    config = tyro.cli(OverlapBenchmark, description=__doc__)
    torch.set_num_threads(1)
    device = Device()
    labeller, file = (fixed if config.method == "fixed" else with_entities)(device, config)
    rows = measure(device, labeller, file, config)
    print(f"{'in work':>7} {'images/s':>9} {'busy':>6} {'bound':>6} {'of it':>6}")
    for row in rows:
        share = row.images_per_s / row.bound_per_s
        print(f"{row.in_work:>7} {row.images_per_s:>9.2f} {row.busy:>6.1%} {row.bound_per_s:>6.2f} {share:>6.1%}")
    if config.json is not None:
        write_figures(config.json, {"setting": asdict(config), "rows": [asdict(row) for row in rows]}, {})
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
