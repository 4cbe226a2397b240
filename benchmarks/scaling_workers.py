"""Images per second of 1, 2, 4, … simulated GPU workers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import ray
from PIL import Image

import data_jobs.labelling.pipeline
import data_jobs.runtime.ray_data
from benchmarks.scaling_labellers import SIZE_HW, SleepingLabeller
from data_jobs.labelling.guard import Guard
from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import ImageRef
from data_jobs.labelling.model_spec import ModelSpec
from data_jobs.labelling.pipeline import label_pending
from data_jobs.labelling.resume import write_pending
from data_jobs.labelling.totals import Totals
from data_jobs.runtime.actors import Actors
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.labelling.config import LabelConfig
from everymask.labels.store import LabelStore


class Recorder:
    """Replaces the progress line and records (seconds, images finished)."""

    told: ClassVar[list[tuple[float, int]]] = []

    def __init__(self, total: int, *, verb: str, note: object) -> None:
        self.told.clear()

    def update(self, finished: int, errors: int) -> None:
        """Keep a state."""
        self.told.append((time.monotonic(), finished))

    def close(self) -> None:
        """Nothing to close."""


def measure(
    counts: Sequence[int], seconds_per_image: float, images_per_worker: int, batch_size: int
) -> dict[str, dict[str, Any]]:
    """Throughput for each number of workers, and its share of the ideal."""
    SleepingLabeller.seconds_per_image = seconds_per_image
    vars(data_jobs.labelling.pipeline).update(LabellerStage=SleepingLabeller, _POLL_SECONDS=0.2)
    vars(data_jobs.runtime.ray_data).update(ProgressLine=Recorder)
    spec = ModelSpec("nano", None, None, "cpu", LabelConfig(), ImageLimits(), threads=1)
    most = max(counts)
    ray.init(address="local", num_cpus=most + 4, num_gpus=most, include_dashboard=False, log_to_driver=False)
    rows = {}
    for workers in counts:
        with tempfile.TemporaryDirectory() as folder:
            images = write_pictures(Path(folder) / "images", workers * images_per_worker)
            store = LabelStore(f"{folder}/labels")
            pending = write_pending(store, images, IdSet()).manifest
            actors = Actors(minimum=workers, maximum=workers, gpus=1.0, cpus=0.5, threads=1)
            policy, guard = AddressPolicy(any_local_file=True), Guard("100%", None)
            started = time.monotonic()
            label_pending(store, pending, spec, {}, actors, batch_size, policy, guard, Totals(actors.gpus))
        ideal, rate = workers / seconds_per_image, steady_rate(Recorder.told, len(images))
        startup_s = next(moment for moment, finished in Recorder.told if finished) - started
        rows[f"{workers} workers"] = {
            "images/s": round(rate, 2),
            "ideal": ideal,
            "efficiency": round(rate / ideal, 3),
            "first_image_s": round(startup_s),
        }
        print(workers, rows[f"{workers} workers"], flush=True)
    ray.shutdown()
    return rows


def steady_rate(told: Sequence[tuple[float, int]], images: int) -> float:
    """Images per second while all workers are busy: the slope over the middle of a run.

    The first tenth holds the workers' start, the last sixth holds workers that have run out of work; a run of hours has
    as much of either as a run of a minute.
    """
    middle = [(moment, finished) for moment, finished in told if images / 10 <= finished <= images * 5 / 6]
    moments, counts = np.array(middle).T
    return float(np.polyfit(moments, counts, 1)[0])


def write_pictures(folder: Path, count: int) -> list[ImageRef]:
    """JPEG files of photograph size and detail; a few pictures under many names, as links."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for kind in range(4):
        coarse = generator.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(SIZE_HW[::-1], Image.Resampling.BICUBIC).save(folder / f"kind-{kind}.jpg")
    for index in range(count):
        (folder / f"{index:06d}.jpg").hardlink_to(folder / f"kind-{index % 4}.jpg")
    return [ImageRef(f"{index:06d}.jpg", str(folder / f"{index:06d}.jpg")) for index in range(count)]
