"""How the labelling job scales: with workers, with the number of images, and with how they lie.

    python benchmarks/scaling.py workers
    python benchmarks/scaling.py whole --images 1000000 --source manifest
    python benchmarks/scaling.py whole --images 1000000 --source tars
    python benchmarks/scaling.py finished --images 1000000
    python benchmarks/scaling.py shards --images 10000000 --folder FOLDER
    python benchmarks/scaling.py resumed --folder FOLDER
    python benchmarks/scaling.py listing --objects 1000000
    python benchmarks/scaling.py tars

`workers` runs the job's own pipeline on a local Ray cluster whose labellers are simulated: they decode, book and answer
as real ones do, but in place of the model they sleep as long as a GPU would compute. `whole` runs the job twice with a
labeller that takes no time: once over all images, and once more when nothing is left. `finished` resumes a run of one
plan in which every image has its row. `shards` cuts a list into shards, gives every image a row and seals the shards;
`resumed` resumes that run. `listing` and `tars` are inputs alone. The figures go to the file that `--json` names.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import tyro
from PIL import Image

from benchmarks.scaling_driver import STAND_IN, image_ids, resident_peak_bytes, run_job, sizes, write_manifest
from benchmarks.scaling_sources import Listing, Tars, measure_listing, measure_tars, write_shards
from data_jobs.labelling.id_set import IdSet
from data_jobs.labelling.inputs import list_images
from data_jobs.labelling.listing import Listed
from data_jobs.labelling.listing import Listing as InputListing
from data_jobs.labelling.pipeline import rows_per_part
from data_jobs.labelling.sharding import cut
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.sealing import seal_shard
from everymask.labels.shards import MAX_SHARD_IMAGES, Shard, read_manifest_file
from everymask.labels.store import LabelStore
from everymask.records import ImageLabels

_SIZE_HW = (480, 640)
_IMAGES_PER_TAR = 10_000

Figures = dict[str, dict[str, Any]]


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
    json: Path | None = None
    """File for the figures."""


@dataclass(frozen=True)
class Whole:
    """Run the job twice, with a labeller that takes no time."""

    images: int = 1_000_000
    """Images of the input, small JPEG files."""
    source: Literal["manifest", "tars"] = "manifest"
    """A Parquet manifest of loose files, a thousand of them under many names; or tar shards of ten thousand each."""
    shard_images: int = MAX_SHARD_IMAGES
    """Images of a shard of the store."""
    json: Path | None = None
    """File for the figures."""


@dataclass(frozen=True)
class Finished:
    """Resume a finished run of one plan: time and the driver's memory."""

    images: int = 1_000_000
    """Rows of the manifest, all of them done."""
    json: Path | None = None
    """File for the figures."""


@dataclass(frozen=True)
class Shards:
    """Plan and seal a large run, whose rows this process writes: seconds, and its memory."""

    folder: Path
    """Folder for the manifest and the store, both of which stay there."""
    images: int = 10_000_000
    """Rows of the manifest."""
    rows_per_part: int = 256
    """Rows of a small part; the job's have 256."""
    seal: bool = True
    """Give the images rows, and seal; else only plan, which is all that the job's driver does itself."""
    minutes: float = 600
    """After which no further shard is begun; the manifest is then cut to what is sealed."""
    json: Path | None = None
    """File for the figures."""


@dataclass(frozen=True)
class Resumed:
    """Resume the finished run that `shards` has left."""

    folder: Path
    """As `shards` took it."""
    json: Path | None = None
    """File for the figures."""


def measure_whole(options: Whole) -> Figures:
    """Images per second of a job over all images, and the seconds of the next one, which finds nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        given = write_tars(Path(folder), options.images) if options.source == "tars" else None
        given = given or str(write_manifest(Path(folder), options.images, write_files(Path(folder))))
        output, more = Path(folder) / "labels", ("--shard-images", str(options.shard_images))
        first = run_job(given, output, *more, job=STAND_IN)
        again = run_job(given, output, *more, job=STAND_IN)
        found = {
            "s": first["seconds"],
            "images/s": round(options.images / first["seconds"]),
            "driver_MiB": first["driver_peak_mib"],
            **sizes(output),
            "again_s": again["seconds"],
            "again_driver_MiB": again["driver_peak_mib"],
        }
    return {f"{options.images:,} from {options.source}, shards of {options.shard_images:,}": found}


def write_files(folder: Path, count: int = 1000) -> list[Path]:
    """Small JPEG files."""
    (folder / "files").mkdir()
    files = [folder / "files" / f"{number:04d}.jpg" for number in range(count)]
    for file in files:
        file.write_bytes(small_picture())
    return files


def write_tars(folder: Path, images: int) -> str:
    """Shards of small JPEG files; returns their glob."""
    (folder / "tars").mkdir()
    write_shards(folder / "tars", -(-images // _IMAGES_PER_TAR), min(images, _IMAGES_PER_TAR), [small_picture()])
    return f"{folder}/tars/*.tar"


def small_picture() -> bytes:
    """A JPEG file of 32 by 32 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def measure_finished(options: Finished) -> Figures:
    """Resume a run in which every image has its row."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, output = write_manifest(Path(folder), options.images), Path(folder) / "labels"
        run_job(manifest, output, "--limit", "1")  # writes run.json, and the row of the first image
        fill_store(LabelStore(str(output)), options.images)
        found = run_job(manifest, output)
        row = {"s": found["seconds"], "driver_cpu_s": found["driver_cpu_s"], "driver_MiB": found["driver_peak_mib"]}
        return {f"{options.images:,} finished": row | {"label_files": sizes(output)["label_files"]}}


def measure_shards(options: Shards) -> Figures:
    """Cut a manifest into shards, and seal them with rows for all."""
    rows: Figures = {}
    options.folder.mkdir(parents=True)
    manifest, store = write_manifest(options.folder, options.images), LabelStore(f"{options.folder}/labels")
    listing = InputListing(store, list_images(str(manifest)), IdSet())
    shards, plan, seal = cut(store, listing.new(), MAX_SHARD_IMAGES), Watch(), Watch()
    ends = time.monotonic() + 60 * options.minutes
    while time.monotonic() < ends:
        with plan:
            shard = next(shards, None)
        if shard is None:
            break
        if options.seal:
            fill_shard(store, shard, options.rows_per_part)
            with seal:
                seal_shard(store, shard, "0" * 64)
        what = f"sealed, from parts of {options.rows_per_part:,}" if options.seal else "planned"
        rows[f"{listing.found:,} {what}"] = row = {
            "planning_s": round(plan.seconds),
            "planning_cpu_s": round(plan.cpu_s),
            "sealing_s": round(seal.seconds),
            "sealing_cpu_s": round(seal.cpu_s),
            "peak_MiB": round(resident_peak_bytes(os.getpid()) / 2**20),
        }
        print(f"shard {shard.name}: {row}", flush=True)
    if listing.found < options.images:
        write_manifest(options.folder, listing.found)
    Listed.of(str(manifest), None).keep_in(store)
    return rows


class Watch:
    """Adds up the time of blocks, and this process's CPU time in them."""

    seconds = cpu_s = 0.0

    def __enter__(self) -> None:
        self._started = time.monotonic(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._started[0]
        self.cpu_s += time.process_time() - self._started[1]


def measure_resumed(options: Resumed) -> Figures:
    """Resume a run of which all is sealed and listed."""
    manifest, output = options.folder / "manifest.parquet", options.folder / "labels"
    with tempfile.TemporaryDirectory() as folder:
        run_job(manifest, Path(folder) / "labels", "--limit", "1")
        shutil.copy(Path(folder) / "labels" / "run.json", output)  # which names the same input and model
    again = run_job(manifest, output)
    images = LabelStore(str(output)).summary().images
    row = {"s": again["seconds"], "driver_MiB": again["driver_peak_mib"], "label_files": sizes(output)["label_files"]}
    return {f"{images:,} resumed": row}


def fill_shard(store: LabelStore, shard: Shard, rows: int) -> None:
    """Give every image of a shard a row without masks."""
    for file in shard.manifest_files():
        names = read_manifest_file(file, ["image_id"])["image_id"]
        for first in range(0, len(names), rows):
            store.write_part(empty_rows(names.slice(first, rows).combine_chunks()), shard=shard.number)


def fill_store(store: LabelStore, images: int) -> None:
    """Give every image but the first a row, in parts as large as the job's. No masks: resuming reads ids alone."""
    size, names = rows_per_part(images), list(image_ids(images))[1:]
    for first in range(0, len(names), size):
        store.write_part(empty_rows(pa.array(names[first : first + size])))


def empty_rows(names: pa.Array) -> pa.Table:
    """A row without masks for each image."""
    empty = to_table([ImageRow("empty", "empty", ImageLabels(_SIZE_HW, (), coverage=0.0))])
    rows = empty.take(pa.array(np.zeros(len(names), dtype=np.int64)))
    for column in ("image_id", "uri"):
        rows = rows.set_column(rows.schema.get_field_index(column), empty.schema.field(column), names)
    return rows


def measure_workers(options: Workers) -> Figures:
    """Throughput for each number of workers, and its share of the ideal."""
    from benchmarks import scaling_workers

    return scaling_workers.measure(
        options.counts, options.seconds_per_image, options.images_per_worker, options.batch_size
    )


def keep(path: Path, figures: Figures) -> None:
    """Write the figures beside those that the file has, if it is there."""
    # Here, since it loads PyTorch, whose memory would count as the driver's.
    from everymask.evaluation.figure_files import read_figures, write_figures

    before = read_figures(path)["figures"] if path.exists() else {}
    write_figures(path, {**before, **figures}, {})


def main() -> None:
    """Run one of the measurements."""
    subcommand = tyro.conf.subcommand
    options = tyro.cli(
        Annotated[Workers, subcommand("workers")]
        | Annotated[Whole, subcommand("whole")]
        | Annotated[Finished, subcommand("finished")]
        | Annotated[Shards, subcommand("shards")]
        | Annotated[Resumed, subcommand("resumed")]
        | Annotated[Listing, subcommand("listing")]
        | Annotated[Tars, subcommand("tars")]
    )
    match options:
        case Workers():
            figures = measure_workers(options)
        case Whole():
            figures = measure_whole(options)
        case Finished():
            figures = measure_finished(options)
        case Shards():
            figures = measure_shards(options)
        case Resumed():
            figures = measure_resumed(options)
        case Listing():
            figures = measure_listing(options)
        case Tars():
            figures = measure_tars(options)
    print(json.dumps(figures, indent=2))
    if options.json is not None:
        keep(options.json, figures)


if __name__ == "__main__":
    main()
