"""Time E-SAM stage by stage, with the lazy and the eager gallery, and its peak memory on a large photograph.

    python benchmarks/entity_stages.py                       images of 640x480, then 24 megapixels
    python benchmarks/entity_stages.py --model vit_b --device cuda --json out.json
    python benchmarks/entity_stages.py --model oracle --regions 200         SAM's sizes, on a drawn picture
    python benchmarks/entity_stages.py --model oracle --regions 1000 --entities.pred-iou-thresh 0 \
        --entities.best-match-thresh 0

Every figure is the median over the images of the best of `--repeat` runs after one warm-up; torch runs on `--threads`
threads. Decoding prompts, which is the backbone's work, has a row of its own. Stages add up to segment_entities, and
their labels must equal its: the script fails if they do not, or if the lazy and the eager gallery disagree.
"""

from __future__ import annotations

import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image

from everymask.backbone.protocol import ImageEmbedding, PromptableBackbone, PromptMasks
from everymask.backbone.registry import load_backbone
from everymask.backbone.sure_points import decode_sure_points
from everymask.entities.config import EntityConfig
from everymask.entities.emr import refine_entities
from everymask.entities.mmg import generate_levels
from everymask.entities.segmenter import entity_labels, segment_entities
from everymask.entities.superpixels import find_superpixels
from everymask.entities.usr import fill_uncovered
from everymask.errors import ConfigurationError, EverymaskError
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.images.decoding import decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.records import ImageLabels
from everymask.research.oracle import LIKE_SAM, OracleBackbone, drawn_scene

REPOSITORY = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = {".jpg", ".jpeg", ".png", ".webp"}
LARGE_SIZE_HW = (4000, 6000)


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to time."""

    images: Path = REPOSITORY / "examples" / "images"
    """Folder of photographs; each is resized to `width` x `height`."""
    model: str = "nano"
    """Backbone; `oracle` answers at SAM's sizes from a drawn picture (everymask/research/oracle)."""
    regions: int = 200
    """Objects of the drawn picture."""
    clock: Literal["wall", "cpu"] = "wall"
    """wall: elapsed seconds; cpu: seconds of all threads together, which other programs disturb less."""
    checkpoint: str | None = None
    """Other weights for it."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    width: int = 640
    """Pixels."""
    height: int = 480
    """Pixels."""
    limit: int | None = None
    """Use at most this many photographs, by name."""
    repeat: int = 3
    """Number of runs; the fastest counts."""
    threads: int = 2
    """Torch threads."""
    memory: bool = True
    """Also label a photograph of 24 megapixels, or the drawn picture, in a fresh process, and report peak memory."""
    json: Path | None = None
    """Also write the figures to this file."""
    entities: EntityConfig = field(default_factory=EntityConfig)
    """Settings of E-SAM."""


class Stopwatch:
    """Seconds by stage; waits for the device, so that each stage is charged for its own work.

    Stands in for the backbone as well, to charge decoding to a row of its own.
    """

    def __init__(self, backbone: PromptableBackbone, clock: Literal["wall", "cpu"]) -> None:
        self.seconds = {"decoding": 0.0}
        self.decoding: dict[str, float] = {}
        self._backbone = backbone
        self._clock = time.perf_counter if clock == "wall" else time.process_time

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def decode_points(self, embedding: ImageEmbedding, point_coords: torch.Tensor) -> PromptMasks:
        start = self._now()
        answers = self._backbone.decode_points(embedding, point_coords)
        self.seconds["decoding"] += self._now() - start
        return answers

    def decode_sure_points(
        self, embedding: ImageEmbedding, point_coords: torch.Tensor, least_iou: float
    ) -> PromptMasks:
        start = self._now()
        answers = decode_sure_points(self._backbone, embedding, point_coords, least_iou)
        self.seconds["decoding"] += self._now() - start
        return answers

    def _now(self) -> float:
        if self._backbone.device.type == "cuda":
            torch.cuda.synchronize(self._backbone.device)
        return self._clock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start, decoding = self._now(), self.seconds["decoding"]
        yield
        self.decoding[name] = self.seconds["decoding"] - decoding
        self.seconds[name] = self._now() - start - self.decoding[name]

    def table_5(self) -> dict[str, float]:
        """Seconds as E-SAM's table 5 charges them: a module with its prompts, and MMG with those of the gallery.

        The paper's gallery is eager; of a lazy one only the prompts that were asked count.
        """
        spent, decoding = self.seconds, self.decoding
        return {
            "table 5: encoder": spent["embed"],
            "table 5: MMG": spent["superpixels"] + spent["MMG"] + decoding["MMG"] + decoding["EMR"],
            "table 5: EMR": spent["EMR"],
            "table 5: USR": spent["USR"] + decoding["USR"],
        }


@torch.inference_mode()
def run_stages(
    backbone: PromptableBackbone, image: NDArray[np.uint8], config: EntityConfig, clock: Literal["wall", "cpu"]
) -> tuple[dict[str, float], ImageLabels]:
    """`segment_entities` with a clock between its steps."""
    watch = Stopwatch(backbone, clock)
    asked = cast(PromptableBackbone, watch)
    with watch.stage("embed"):
        embedding = backbone.embed([image])[0]
    with watch.stage("superpixels"):
        superpixels = find_superpixels(embedding, config.superpixels)
    with watch.stage("MMG"):
        levels = generate_levels(asked, embedding, superpixels, config)
    with watch.stage("EMR"):
        entities = refine_entities(asked, embedding, levels.objects, superpixels, config)
    with watch.stage("USR"):
        entities = fill_uncovered(asked, embedding, entities, levels.parts, superpixels, levels.grid, config)
    with watch.stage("full resolution"):
        labels = entity_labels(entities, levels.grid, embedding.canvas)
    modules = (seconds for stage, seconds in watch.seconds.items() if stage not in ("embed", "decoding"))
    watch.seconds |= {"E-SAM": sum(modules), "total": sum(watch.seconds.values()), "object masks": len(levels.objects)}
    watch.seconds |= watch.table_5()
    if labels != segment_entities(backbone, embedding, config):
        raise AssertionError("the stages timed here no longer do what segment_entities does")
    return watch.seconds, labels


def best_of(
    backbone: PromptableBackbone, image: NDArray[np.uint8], config: EntityConfig, benchmark: BenchmarkConfig
) -> tuple[dict[str, float], ImageLabels]:
    """The fastest run of `benchmark.repeat`."""
    runs = [run_stages(backbone, image, config, benchmark.clock) for _ in range(benchmark.repeat)]
    return min(runs, key=lambda run: run[0]["total"])


def pictures(config: BenchmarkConfig) -> tuple[PromptableBackbone, dict[str, NDArray[np.uint8]]]:
    """The backbone, and the timed images by name.

    Raises:
        ConfigurationError: there is no photograph to time.
    """
    if config.model == "oracle":
        scene = drawn_scene(config.regions, (config.height, config.width))
        return OracleBackbone([scene], LIKE_SAM), {f"{config.regions} drawn objects": scene.image}
    backbone = load_backbone(config.model, config.checkpoint, config.device)
    paths = sorted(path for path in config.images.rglob("*") if path.suffix.lower() in PHOTOGRAPHS)
    if not paths:
        raise ConfigurationError(f"{config.images} holds no photograph; give a folder of JPEG, PNG or WebP files")
    size = (config.width, config.height)
    photographs = {path.name: Image.fromarray(decode_image(path.read_bytes())) for path in paths[: config.limit]}
    return backbone, {
        name: np.asarray(photograph.resize(size, Image.Resampling.LANCZOS)) for name, photograph in photographs.items()
    }


def time_galleries(config: BenchmarkConfig) -> dict[str, dict[str, float]]:
    """Median seconds by stage for the lazy and the eager gallery.

    Raises:
        ConfigurationError: there is no photograph to time.
    """
    backbone, images = pictures(config)
    seconds: dict[str, list[dict[str, float]]] = {"lazy": [], "eager": []}
    for position, (picture, image) in enumerate(images.items()):
        if position == 0:
            run_stages(backbone, image, config.entities, config.clock)
        answers = []
        for name in seconds:
            entities = replace(config.entities, lazy_gallery=name == "lazy")
            timed, labels = best_of(backbone, image, entities, config)
            seconds[name].append(timed)
            answers.append(labels)
        if answers[0] != answers[1]:
            raise AssertionError(f"the lazy and the eager gallery disagree on {picture}")
        print(f"\r{position + 1}/{len(images)} {picture}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {
        name: {stage: statistics.median(run[stage] for run in runs) for stage in runs[0]}
        for name, runs in seconds.items()
    }


def _label_drawn(config: BenchmarkConfig, results: multiprocessing.Queue[tuple[float, float]]) -> None:
    """In a fresh process: label the drawn picture; seconds, and peak memory in GiB over what was held before."""
    torch.set_num_threads(config.threads)
    backbone, images = pictures(config)
    embedding = backbone.embed(list(images.values()))[0]
    backbone.decode_points(embedding, torch.zeros(64, 2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    segment_entities(backbone, embedding, config.entities)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    results.put((time.perf_counter() - start, peak))


def _label_large(config: BenchmarkConfig, results: multiprocessing.Queue[tuple[float, float]]) -> None:
    """In a fresh process: label one large photograph; seconds and peak memory in GiB."""
    torch.set_num_threads(config.threads)
    backbone = load_backbone(config.model, config.checkpoint, config.device)
    path = min(config.images.glob("*.jpg"))
    height, width = LARGE_SIZE_HW
    image = np.asarray(Image.fromarray(decode_image(path.read_bytes())).resize((width, height)))
    start = time.perf_counter()
    label_images(backbone, [image], LabelConfig(entities=config.entities))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    results.put((time.perf_counter() - start, peak))


def measure_large(config: BenchmarkConfig) -> dict[str, float]:
    """Seconds and peak resident memory (GiB) for a photograph of 24 megapixels, of the whole process; for the drawn
    picture, over what loading and one batch of prompts take."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_label_drawn if config.model == "oracle" else _label_large, args=(config, results))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"labelling in a fresh process ended with exit code {process.exitcode}")
    seconds, peak = results.get()
    return {"seconds": seconds, "peak_gib": peak}


def run(config: BenchmarkConfig) -> None:
    """Time the stages, measure the memory, print the table and write the JSON file.

    Raises:
        EverymaskError: no photograph, no weights, or no such device.
    """
    torch.set_num_threads(config.threads)
    galleries = time_galleries(config)
    large = measure_large(config) if config.memory else None
    print(f"{'seconds an image':<16}" + "".join(f"{name:>9}" for name in galleries))
    for stage in galleries["lazy"]:
        print(f"{stage:<16}" + "".join(f"{times[stage]:>9.3f}" for times in galleries.values()))
    if large:
        what = "drawn picture, decoding included" if config.model == "oracle" else "24 megapixels"
        print(f"{what}: {large['seconds']:.1f} s, peak memory {large['peak_gib']:.2f} GiB")
    if config.json is not None:
        setting = {
            "model": config.model,
            "threads": config.threads,
            "machine": platform.processor() or platform.machine(),
        }
        figures = {"setting": setting, "seconds": galleries, "large": large}
        write_figures(config.json, figures, weights_of([config.model]))


def main() -> int:
    try:
        run(tyro.cli(BenchmarkConfig, description=__doc__))
    except EverymaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
