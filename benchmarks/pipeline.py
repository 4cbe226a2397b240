"""What Ray costs the labelling job, and how the driver's memory grows with the number of images.

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --memory-images 100 1000 --json pipeline.json

Speed: `--actors` plain processes, each looping over its share of the files with the function the job calls (read,
decode, embed, label), against the job with as many actors. The job is timed twice, on n and on 2n images; the
difference is what n images cost, without the start of workers and the end of the run. The plain loop is timed after its
model is loaded.

Memory: the peak resident memory of a driver that labels 100 and then 10,000 tiny images by a one-prompt grid, and of
one that plans a manifest of a million rows without labelling it.

Fails (exit 1) when the job's rows differ from those of the plain loop.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tyro
from PIL import Image

from data_jobs.label_dataset import command as label_dataset
from data_jobs.labelling.guard import Guard
from data_jobs.labelling.inputs import list_images
from data_jobs.labelling.labeller import Labeller
from data_jobs.labelling.ledger import Ledger
from data_jobs.labelling.model_spec import ModelSpec
from data_jobs.labelling.pipeline import label_pending
from data_jobs.labelling.resume import IdSet, settle_store, write_pending
from data_jobs.labelling.stages import load_bytes
from data_jobs.runtime.actors import Footprint, connect, plan_actors
from everymask.entities.config import AmgConfig
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.labelling.config import LabelConfig
from everymask.labels.rows import ImageRow, from_batch
from everymask.labels.store import LabelStore


@dataclass(frozen=True)
class PipelineBenchmark:
    """What is measured."""

    images: int = 64
    """n: images of the shorter of the two timed runs."""
    width: int = 640
    """Pixels."""
    height: int = 480
    """Pixels."""
    points_per_side: int = 32
    """Grid of the automatic mask generator on the timed images."""
    actors: int = 2
    """Workers of the job, and plain processes."""
    repeat: int = 3
    """Timed pairs of runs; the median is reported."""
    model: str = "nano"
    """Backbone."""
    checkpoint: str | None = None
    """Other weights of it."""
    memory_images: tuple[int, ...] = (100, 10_000)
    """Numbers of tiny images the driver's memory is read at."""
    manifest_rows: int = 1_000_000
    """Rows of the manifest that is only planned."""
    json: Path | None = None
    """Also write the figures here."""


def write_photographs(folder: Path, count: int, width: int, height: int) -> None:
    """JPEGs of coloured discs on a gradient: something to find, and cheap to make."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[:height, :width]
    for number in range(count):
        generator = np.random.default_rng(number)
        picture = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=-1).astype(np.uint8)
        for _ in range(12):
            centre_x, centre_y = generator.uniform(0, width), generator.uniform(0, height)
            inside = np.hypot(x - centre_x, y - centre_y) < generator.uniform(0.03, 0.15) * width
            picture[inside] = generator.integers(0, 255, 3)
        Image.fromarray(picture).save(folder / f"{number:06d}.jpg", quality=90)


def model_spec(config: PipelineBenchmark, points_per_side: int) -> ModelSpec:
    """The model on the CPU, one thread each, as the job runs it."""
    labels = LabelConfig("amg", amg=AmgConfig(points_per_side=points_per_side))
    return ModelSpec(config.model, config.checkpoint, None, "cpu", labels, ImageLimits(), threads=1)


def plain_loop(spec: ModelSpec, uris: list[str]) -> tuple[float, float, list[ImageRow]]:
    """(start, end, rows) of a loop over files in this process, after one image to warm up."""
    labeller = Labeller(spec, Ledger())

    def label(uri: str) -> ImageRow:
        batch = pa.table({"image_id": [Path(uri).name], "uri": [uri]})
        return from_batch(labeller(load_bytes(batch, spec.limits, AddressPolicy(any_local_file=True))))[0]

    label(uris[0])
    started = time.time()
    rows = [label(uri) for uri in uris]
    return started, time.time(), rows


def time_plain(spec: ModelSpec, folder: Path, processes: int) -> tuple[float, list[ImageRow]]:
    """Seconds for all files of a folder in plain processes side by side, and their rows."""
    uris = [image.uri for image in list_images(str(folder))]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        loops = list(pool.map(plain_loop, [spec] * processes, [uris[share::processes] for share in range(processes)]))
    seconds = max(end for _, end, _ in loops) - min(start for start, _, _ in loops)
    return seconds, [row for _, _, rows in loops for row in rows]


def time_job(spec: ModelSpec, folder: Path, actors: int) -> tuple[float, list[ImageRow]]:
    """Seconds the pipeline takes for all files of a folder, and its rows."""
    with tempfile.TemporaryDirectory() as output:
        store = LabelStore(output)
        pending = write_pending(store, list_images(str(folder)), IdSet())
        started = time.monotonic()
        policy = AddressPolicy(any_local_file=True)
        label_pending(
            store,
            pending.manifest,
            spec,
            {},
            plan_actors(str(actors), 0.0, Footprint.of_model(spec.model)),
            1,
            policy,
            Guard("100%", None),
        )
        return time.monotonic() - started, list(store.images())


def comparable(rows: list[ImageRow]) -> list[ImageRow]:
    """Rows in one order, without times."""
    return sorted((replace(row, seconds=0.0) for row in rows), key=lambda row: row.image_id)


def measure_speed(config: PipelineBenchmark, scratch: Path) -> dict[str, Any]:
    """images/s of the plain processes and of the job, and the share that Ray loses."""
    spec = model_spec(config, config.points_per_side)
    for name, count in (("n", config.images), ("2n", 2 * config.images)):
        write_photographs(scratch / name, count, config.width, config.height)
    connect()
    plain, job, equal = [], [], True
    for _ in range(config.repeat):
        plain_seconds, plain_rows = time_plain(spec, scratch / "n", config.actors)
        short_seconds, job_rows = time_job(spec, scratch / "n", config.actors)
        long_seconds, _ = time_job(spec, scratch / "2n", config.actors)
        plain.append(config.images / plain_seconds)
        job.append(config.images / (long_seconds - short_seconds))
        equal &= comparable(plain_rows) == comparable(job_rows)
    plain_rate, job_rate = float(np.median(plain)), float(np.median(job))
    return {
        "images": config.images,
        "actors": config.actors,
        "plain_images_per_s": plain_rate,
        "job_images_per_s": job_rate,
        "plain_spread": [min(plain), max(plain)],
        "job_spread": [min(job), max(job)],
        "lost_to_ray": 1 - job_rate / plain_rate,
        "rows_equal": equal,
    }


def peak_mib(action: Callable[[Any], None], argument: object) -> float:
    """Peak resident memory, in MiB, of a fresh process that runs `action(argument)`."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak_after, action, argument).result()


def _peak_after(action: Callable[[Any], None], argument: object) -> float:
    action(argument)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def drive_tiny_images(arguments: tuple[PipelineBenchmark, int]) -> None:
    """Act as the driver of a job over tiny images with one prompt each."""
    config, count = arguments
    with tempfile.TemporaryDirectory() as scratch:
        write_photographs(Path(scratch, "in"), min(count, 50), 32, 24)
        originals = sorted(Path(scratch, "in").iterdir())
        for number in range(len(originals), count):
            os.link(originals[number % len(originals)], Path(scratch, "in", f"{number:06d}.jpg"))
        options = ["--method", "amg", "--amg.points-per-side", "1", "--device", "cpu", "--previews", "0"]
        options += ["--model", config.model, "--actors", str(config.actors)]
        options += ["--checkpoint", config.checkpoint] if config.checkpoint else []
        code = label_dataset(["--input", f"{scratch}/in", "--output", f"{scratch}/out", *options])
        if code != 0:
            raise RuntimeError(f"the job exited with {code}")


def plan_manifest(rows: int) -> None:
    """Act as a driver that lists a manifest and writes the pending images."""
    with tempfile.TemporaryDirectory() as scratch:
        with pq.ParquetWriter(f"{scratch}/m.parquet", pa.schema([("uri", pa.string())])) as writer:
            for start in range(0, rows, 50_000):
                uris = [
                    f"s3://bucket/photos/{row // 1000:05d}/{row:09d}.jpg"
                    for row in range(start, min(rows, start + 50_000))
                ]
                writer.write_table(pa.table({"uri": uris}))
        store = LabelStore(f"{scratch}/out")
        finished = settle_store(store)
        pending = write_pending(store, list_images(f"{scratch}/m.parquet"), finished.ids)
        if pending.images != rows:
            raise RuntimeError(f"{pending.images} of {rows} rows are pending")


def measure_memory(config: PipelineBenchmark) -> dict[str, Any]:
    """Peak memory of drivers, in MiB."""
    jobs = {str(count): peak_mib(drive_tiny_images, (config, count)) for count in config.memory_images}
    started = time.monotonic()
    manifest = peak_mib(plan_manifest, config.manifest_rows)
    return {
        "driver_peak_mib": jobs,
        "manifest_rows": config.manifest_rows,
        "manifest_peak_mib": manifest,
        "manifest_seconds": time.monotonic() - started,
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    speed, memory = figures["speed"], figures["memory"]
    lines = [
        f"| {speed['actors']} workers, CPU, one thread each | images/s | from | to |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {speed[f'{key}_images_per_s']:.2f} | {min(speed[f'{key}_spread']):.2f} | "
            f"{max(speed[f'{key}_spread']):.2f} |"
            for name, key in (("plain processes", "plain"), ("the job", "job"))
        ),
        f"\nlost to Ray: {speed['lost_to_ray']:.1%}; rows equal: {speed['rows_equal']}\n",
        "| driver | peak memory, MiB |",
        "| --- | ---: |",
        *(f"| labels {int(count):,} images | {peak:.0f} |" for count, peak in memory["driver_peak_mib"].items()),
        f"| plans {memory['manifest_rows']:,} manifest rows | {memory['manifest_peak_mib']:.0f} |",
    ]
    return "\n".join(lines)


def main() -> int:
    """The command; returns its exit code."""
    config = tyro.cli(PipelineBenchmark, description=__doc__)
    scratch = Path(tempfile.mkdtemp(prefix="everymask-pipeline-"))
    try:
        figures = {"memory": measure_memory(config), "speed": measure_speed(config, scratch)}
    finally:
        shutil.rmtree(scratch)
    print(table(figures))
    if config.json:
        config.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["speed"]["rows_equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
