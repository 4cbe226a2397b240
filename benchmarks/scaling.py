"""How the labelling job scales: with workers, and with the number of images.

    python benchmarks/scaling.py workers --output scaling-workers.json
    python benchmarks/scaling.py finished --images 1000000 --output scaling-finished.json
    python benchmarks/scaling.py fresh --images 1000000 --output scaling-fresh.json
    python benchmarks/scaling.py shards --images 10000000 --output scaling-shards.json

`workers` runs the job's own pipeline on a local Ray cluster whose labellers are simulated: they decode, book and answer
as real ones do, but in place of the model they sleep as long as a GPU would compute. `finished` resumes a run in which
every image has its row; `fresh` starts one whose images are all missing, so that nothing but the job's own bookkeeping
is measured. `shards` cuts a list into shards, gives every image a row, seals the shards and resumes the finished run.
The last three run the command itself and watch its driver.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
import tyro
from PIL import Image

import data_jobs.labelling.pipeline
from data_jobs.labelling.guard import Guard
from data_jobs.labelling.inputs import ImageRef, batched, list_images
from data_jobs.labelling.labeller import Labeller
from data_jobs.labelling.ledger import Bookkeeper
from data_jobs.labelling.listing import Listed, Listing
from data_jobs.labelling.model_spec import ModelSpec
from data_jobs.labelling.pipeline import label_pending, rows_per_part
from data_jobs.labelling.resume import IdSet, settle_store, write_pending
from data_jobs.labelling.room import Room
from data_jobs.labelling.sharding import cut
from data_jobs.labelling.spent import BusyClock
from data_jobs.runtime.actors import Actors
from everymask.errors import InputError
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits, decode_image
from everymask.images.difference_hash import difference_hash
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import ImageResult
from everymask.labelling.overlap import File, FileLabels
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.sealing import seal_shard
from everymask.labels.shards import MAX_SHARD_IMAGES, Shard, read_manifest_file
from everymask.labels.store import LabelStore
from everymask.masks.rle import encode_mask
from everymask.records import ImageLabels, LabelledMask

_SIZE_HW = (480, 640)
_MASKS = 60
_JOB = Path(__file__).resolve().parent.parent / "data_jobs" / "label_dataset.py"
_RSS_POLL_S = 0.2
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Workers:
    """Images per second of 1, 2, 4, … simulated GPU workers."""

    counts: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Numbers of workers to try."""
    seconds_per_image: float = 0.5
    """The simulated GPU's time for one image."""
    images_per_worker: int = 64
    """Work for each worker, so that every run takes about the same time."""
    batch_size: int = 4
    """Images a worker gets at a time."""
    output: Path | None = None
    """JSON file for the result."""


@dataclass(frozen=True)
class Finished:
    """Resume a finished run: time and the driver's memory."""

    images: int = 1_000_000
    """Rows of the manifest, all of them done."""
    output: Path | None = None
    """JSON file for the result."""


@dataclass(frozen=True)
class Fresh:
    """Start a run from nothing: the driver's memory while every image passes through the pipeline."""

    images: int = 1_000_000
    """Rows of the manifest, all of them missing files."""
    shard_images: int = MAX_SHARD_IMAGES
    """Images of a shard."""
    output: Path | None = None
    """JSON file for the result."""


@dataclass(frozen=True)
class Shards:
    """Plan, seal and resume a large run: seconds, and this process's memory beside the driver's."""

    images: int = 10_000_000
    """Rows of the manifest."""
    output: Path | None = None
    """JSON file for the result."""


def typical_labels() -> ImageLabels:
    """Sixty rectangles and ellipses: about the bytes that the entities of a photograph take."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[: _SIZE_HW[0], : _SIZE_HW[1]]
    masks = []
    for index in range(_MASKS):
        centre, radius = generator.uniform((0, 0), _SIZE_HW), generator.uniform(10, 60, size=2)
        mask = ((rows - centre[0]) / radius[0]) ** 2 + ((columns - centre[1]) / radius[1]) ** 2 < 1
        y, x = np.nonzero(mask)
        box = (int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1)
        point = (float(x.mean()), float(y.mean()))
        masks.append(LabelledMask(encode_mask(mask), box, int(mask.sum()), 0.9, 0.9, point, 1 - index / _MASKS))
    return ImageLabels(_SIZE_HW, tuple(masks), coverage=0.8)


class SimulatedLabeller(Labeller):
    """The job's labeller, sleeping for a GPU's time instead of running a model."""

    seconds_per_image = 0.0

    def __init__(self, spec: ModelSpec, ledger: Bookkeeper, together: int) -> None:
        torch.set_num_threads(1)
        self._spec = spec
        self._ledger = ledger
        self._together = together
        self._labeller = self
        self._room, self._clock = Room(), BusyClock()
        self._settings_sha256 = "0" * 64
        self._answer = ImageResult(typical_labels())
        self._gpu = threading.Lock()

    def label(self, groups: Iterable[Sequence[File]]) -> Iterator[list[FileLabels]]:
        """The same labels for every file."""
        for group in groups:
            hashes = [None if isinstance(file, InputError) else self._hash(file) for file in group]
            with self._gpu:
                time.sleep(self.seconds_per_image * len(group))
            yield [FileLabels(self._answer, dhash) for dhash in hashes]

    def _hash(self, data: bytes) -> str:
        return difference_hash(decode_image(data, self._spec.limits))


def write_pictures(folder: Path, count: int) -> list[ImageRef]:
    """JPEG files of photograph size and detail; a few pictures under many names, as links."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for kind in range(4):
        coarse = generator.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(_SIZE_HW[::-1], Image.Resampling.BICUBIC).save(folder / f"kind-{kind}.jpg")
    for index in range(count):
        (folder / f"{index:06d}.jpg").hardlink_to(folder / f"kind-{index % 4}.jpg")
    return [ImageRef(f"{index:06d}.jpg", str(folder / f"{index:06d}.jpg")) for index in range(count)]


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


def measure_workers(options: Workers) -> dict[str, Any]:
    """Throughput for each number of workers, and its share of the ideal."""
    SimulatedLabeller.seconds_per_image = options.seconds_per_image
    vars(data_jobs.labelling.pipeline).update(LabellerStage=SimulatedLabeller, _POLL_SECONDS=0.2)
    vars(data_jobs.runtime.ray_data).update(ProgressLine=Recorder)
    spec = ModelSpec("simulated", None, None, "cpu", LabelConfig(), ImageLimits(), threads=1)
    most = max(options.counts)
    ray.init(address="local", num_cpus=most + 4, num_gpus=most, include_dashboard=False, log_to_driver=False)
    runs = []
    print(f"{'workers':>7} {'images/s':>9} {'ideal':>7} {'efficiency':>10} {'start':>7} {'all':>7}")
    for workers in options.counts:
        with tempfile.TemporaryDirectory() as folder:
            images = write_pictures(Path(folder) / "images", workers * options.images_per_worker)
            store = LabelStore(f"{folder}/labels")
            pending = write_pending(store, images, IdSet())
            actors = Actors(minimum=workers, maximum=workers, gpus=1.0, cpus=0.5, threads=1)
            started = time.monotonic()
            policy = AddressPolicy(any_local_file=True)
            label_pending(store, pending.manifest, spec, {}, actors, options.batch_size, policy, Guard("100%", None))
            total_s = time.monotonic() - started
        ideal = workers / options.seconds_per_image
        startup_s = next(moment for moment, finished in Recorder.told if finished) - started
        rate = steady_rate(Recorder.told, len(images))
        runs.append(
            {
                "workers": workers,
                "images_per_s": rate,
                "ideal_per_s": ideal,
                "efficiency": rate / ideal,
                "startup_s": startup_s,
                "total_s": total_s,
            }
        )
        print(
            f"{workers:>7} {rate:>9.2f} {ideal:>7.1f} {rate / ideal:>10.1%} {startup_s:>5.1f} s {total_s:>5.1f} s",
            flush=True,
        )
    ray.shutdown()
    return {**asdict(options), "cores": os.cpu_count(), "runs": runs}


def steady_rate(told: Sequence[tuple[float, int]], images: int) -> float:
    """Images per second while all workers are busy: the slope over the middle of a run.

    The first tenth holds the workers' start, the last sixth holds workers that have run out of work; a run of hours has
    as much of either as a run of a minute.
    """
    middle = [(moment, finished) for moment, finished in told if images / 10 <= finished <= images * 5 / 6]
    moments, counts = np.array(middle).T
    return float(np.polyfit(moments, counts, 1)[0])


def measure_finished(options: Finished) -> dict[str, Any]:
    """Resume a run in which every image has its row."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(Path(folder), options.images)
        run_job(manifest, Path(folder) / "labels", "--limit", "1")  # writes run.json, and the row of the first image
        fill_store(LabelStore(f"{folder}/labels"), options.images)
        result = run_job(manifest, Path(folder) / "labels") | sizes(Path(folder), options.images)
    print(json.dumps(result, indent=2))
    return asdict(options) | result


def measure_fresh(options: Fresh) -> dict[str, Any]:
    """Send every row of a manifest through the job; no image exists, so each becomes an error row."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(Path(folder), options.images)
        more = ("--shard-images", str(options.shard_images))
        result = run_job(manifest, Path(folder) / "labels", *more) | sizes(Path(folder), options.images)
    result["images_per_s"] = round(options.images / result["seconds"], 1)
    print(json.dumps(result, indent=2))
    return asdict(options) | result


def measure_shards(options: Shards) -> dict[str, Any]:
    """Cut a manifest into shards, seal them with rows for all, and resume what is finished then."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, store = write_manifest(Path(folder), options.images), LabelStore(f"{folder}/labels")
        run_job(manifest, Path(folder) / "labels", "--limit", "1")  # writes run.json, and the row of the first image
        started, sealing_s, plan_s = time.monotonic(), 0.0, 0.0
        first_shard_s = None
        listing = Listing(store, list_images(str(manifest)), settle_store(store).ids)
        for shard in cut(store, listing.new(), MAX_SHARD_IMAGES):
            plan_s += time.monotonic() - started
            first_shard_s = first_shard_s or plan_s
            fill_shard(store, shard)
            started = time.monotonic()
            seal_shard(store, shard, "0" * 64)
            sealing_s += time.monotonic() - started
            print(f"shard {shard.name}: {plan_s:.0f} s planning, {sealing_s:.0f} s sealing", flush=True)
            started = time.monotonic()
        Listed.of(str(manifest), None).keep_in(store)
        found = {
            "planning_s": round(plan_s, 1),
            "first_shard_s": round(first_shard_s or 0.0, 1),
            "sealing_s": round(sealing_s, 1),
            "planning_and_sealing_peak_mib": round(resident_peak_bytes(os.getpid()) / 2**20),
        }
        resumed = {f"resume_{name}": value for name, value in run_job(manifest, Path(folder) / "labels").items()}
        result = found | resumed | sizes(Path(folder), options.images)
    print(json.dumps(result, indent=2))
    return asdict(options) | result


def fill_shard(store: LabelStore, shard: Shard) -> None:
    """Give every image of a shard a row without masks, in parts as large as the job's."""
    size = rows_per_part(MAX_SHARD_IMAGES)
    for file in shard.manifest_files():
        names = read_manifest_file(file, ["image_id"])["image_id"]
        for first in range(0, len(names), size):
            store.write_part(empty_rows(names.slice(first, size).combine_chunks()), shard=shard.number)


def image_ids(images: int) -> Iterator[str]:
    """Names like a collection's: a folder for every thousand."""
    return (f"train/{index // 1000:06d}/{index:012d}.jpg" for index in range(images))


def write_manifest(folder: Path, images: int) -> Path:
    """A Parquet manifest of images that are not there."""
    path = folder / "manifest.parquet"
    with pq.ParquetWriter(path, pa.schema([("uri", pa.string())])) as writer:
        for some in batched((f"/nowhere/{image_id}" for image_id in image_ids(images)), _ROWS_AT_ONCE):
            writer.write_table(pa.table({"uri": some}))
    return path


def fill_store(store: LabelStore, images: int) -> None:
    """Give every image but the first a row, in parts as large as the job's. No masks: resuming reads ids alone."""
    size = rows_per_part(images)
    names = [f"/nowhere/{image_id}" for image_id in image_ids(images)][1:]
    for first in range(0, len(names), size):
        store.write_part(empty_rows(pa.array(names[first : first + size])))


def empty_rows(names: pa.Array) -> pa.Table:
    """A row without masks for each image."""
    empty = to_table([ImageRow("empty", "empty", ImageLabels(_SIZE_HW, (), coverage=0.0))])
    rows = empty.take(pa.array(np.zeros(len(names), dtype=np.int64)))
    for column in ("image_id", "uri"):
        rows = rows.set_column(rows.schema.get_field_index(column), empty.schema.field(column), names)
    return rows


def run_job(manifest: Path, output: Path, *more: str) -> dict[str, float]:
    """The command, start to end; the driver's memory and CPU time are its own, without Ray's servers and workers."""
    command = [sys.executable, str(_JOB), "--input", str(manifest), "--output", str(output)]
    command += ["--max-errors", "100%", "--previews", "0", *more]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        driver = subprocess.Popen(command, stdout=log, stderr=log)
        peak_bytes, cpu_s = 0, 0.0
        while driver.poll() is None:
            peak_bytes = max(peak_bytes, resident_peak_bytes(driver.pid))
            cpu_s = max(cpu_s, cpu_seconds(driver.pid))
            time.sleep(_RSS_POLL_S)
        log.seek(0)
        if driver.returncode:
            sys.exit(f"{' '.join(command)} ended with {driver.returncode}:\n{log.read()}")
    seconds = time.monotonic() - started
    return {"seconds": round(seconds, 1), "driver_cpu_s": round(cpu_s, 1), "driver_peak_mib": round(peak_bytes / 2**20)}


def resident_peak_bytes(pid: int) -> int:
    """VmHWM of a process; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; 0 once it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def sizes(folder: Path, images: int) -> dict[str, float]:
    """Files that a run of this many images leaves on disk."""
    checkpoint = [path.stat().st_size for path in (folder / "labels" / "checkpoint").rglob("*") if path.is_file()]
    return {
        "manifest_bytes_per_image": (folder / "manifest.parquet").stat().st_size / images,
        "checkpoint_bytes_per_image": sum(checkpoint) / images,
        "label_files": len(list((folder / "labels" / "labels").glob("*.parquet"))),
        "shard_files": len([path for path in (folder / "labels" / "shards").rglob("*") if path.is_file()]),
        "checkpoint_files": len(checkpoint),
    }


def main() -> None:
    """Run one of the measurements."""
    subcommand = tyro.conf.subcommand
    options = tyro.cli(
        Annotated[Workers, subcommand("workers")]
        | Annotated[Finished, subcommand("finished")]
        | Annotated[Fresh, subcommand("fresh")]
        | Annotated[Shards, subcommand("shards")]
    )
    if isinstance(options, Workers):
        result = measure_workers(options)
    elif isinstance(options, Finished):
        result = measure_finished(options)
    elif isinstance(options, Fresh):
        result = measure_fresh(options)
    else:
        result = measure_shards(options)
    if options.output is not None:
        options.output.write_text(json.dumps(result | {"output": None}, indent=2) + "\n")


if __name__ == "__main__":
    main()
