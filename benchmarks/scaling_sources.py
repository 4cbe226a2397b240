"""How fast inputs are listed and read: a bucket page by page, tar shards beside webdataset's own loop."""

from __future__ import annotations

import io
import itertools
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import loopback_bucket
from benchmarks.scaling_driver import resident_peak_bytes
from data_jobs.labelling.inputs import ImageRef, batched, list_images
from data_jobs.labelling.manifests import to_table
from data_jobs.labelling.stages import load_bytes
from everymask.files.addresses import AddressPolicy
from everymask.images.decoding import ImageLimits
from everymask.images.files import read_members

_ROWS_AT_ONCE = 32


@dataclass(frozen=True)
class Listing:
    """List a bucket on this machine that answers as S3 does."""

    objects: int = 1_000_000
    """Images of the bucket."""
    folders: int = 1
    """Folders that they lie in."""
    page_seconds: float = 0.0
    """The bucket's time for a page of a thousand."""
    json: Path | None = None
    """File for the figures, to which others may have been written before."""


@dataclass(frozen=True)
class Tars:
    """Read shards as the job does, and as webdataset does."""

    shards: int = 4
    """Number of shards."""
    images: int = 1000
    """Images of a shard."""
    rounds: int = 5
    """Times that each reads all, in turn."""
    json: Path | None = None
    """File for the figures."""


def measure_listing(options: Listing) -> dict[str, dict[str, Any]]:
    """Seconds until the first image and the last, and how far this process's memory grew."""
    arguments = ["--objects", options.objects, "--folders", options.folders, "--page-seconds", options.page_seconds]
    command = [sys.executable, loopback_bucket.__file__, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            uri = loopback_bucket.Served(int(server.stdout.readline())).uri("photos")
            before = resident_peak_bytes(os.getpid())
            started = time.monotonic()
            images = list_images(uri)
            next(images)
            first_s = time.monotonic() - started
            count = 1 + sum(1 for _ in images)
            seconds = time.monotonic() - started
        finally:
            server.terminate()
    if count != options.objects:
        raise SystemExit(f"{count} of {options.objects} objects were listed")
    name = f"{options.objects:,} objects in {options.folders:,}, a page in {options.page_seconds:g} s"
    found = {
        "first_image_s": round(first_s, 2),
        "all_s": round(seconds, 1),
        "objects/s": round(count / seconds),
        "memory_grew_MiB": round((resident_peak_bytes(os.getpid()) - before) / 2**20),
    }
    return {name: found}


def measure_tars(options: Tars) -> dict[str, dict[str, Any]]:
    """Images per second of both loops, each the median over rounds."""
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), options.shards, options.images, photograph_bytes())
        shards = sorted(map(str, Path(folder).glob("*.tar")))
        loops: dict[str, Callable[[], int]] = {
            "webdataset's loop": partial(read_with_webdataset, shards),
            "listed and read": partial(read_listed, folder, read),
            "listed and read by the job's stages, with digests": partial(read_listed, folder, load),
        }
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(options.rounds):
            for name, loop in loops.items():
                started = time.process_time()
                count = loop()
                seconds[name].append(time.process_time() - started)
                if count != options.shards * options.images:
                    raise SystemExit(f"{name}: {count} images instead of {options.shards * options.images}")
    base = statistics.median(seconds["webdataset's loop"])
    images = options.shards * options.images
    return {
        name: {
            "images/s": round(images / statistics.median(taken)),
            "beside_webdataset": round(statistics.median(taken) / base, 3),
        }
        for name, taken in seconds.items()
    }


def read_listed(folder: str, read_some: Callable[[list[ImageRef]], int]) -> int:
    """List the shards, and read their images some at a time; returns their number."""
    return sum(read_some(batch) for batch in batched(list_images(f"{folder}/*.tar"), _ROWS_AT_ONCE))


def read(batch: list[ImageRef]) -> int:
    """Read the bytes of neighbours, as the library does."""
    count = 0
    for uri, group in itertools.groupby(batch, lambda image: image.uri):
        members = [image.member for image in group if image.member is not None]
        found = read_members(uri, members, ImageLimits(), AddressPolicy(any_local_file=True))
        count += sum(isinstance(data, bytes) for data in found)
    return count


def load(batch: list[ImageRef]) -> int:
    """Read them as a task of the job does: with their digests, from a table into a table."""
    loaded = load_bytes(to_table(batch), ImageLimits(), AddressPolicy(any_local_file=True))
    return loaded.num_rows - int(loaded["data"].null_count)


def read_with_webdataset(shards: list[str]) -> int:
    """The loop of the webdataset package, which leaves the images' bytes as they are."""
    import webdataset

    samples = webdataset.WebDataset(shards, shardshuffle=False, empty_check=False)
    return sum(1 for sample in samples if len(sample["jpg"]))


def photograph_bytes() -> list[bytes]:
    """JPEG files of some photographs' size and detail."""
    generator = np.random.default_rng(0)
    files = []
    for _ in range(8):
        coarse = generator.integers(0, 255, (96, 128, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=92)
        files.append(buffer.getvalue())
    return files


def write_shards(folder: Path, shards: int, images: int, files: list[bytes]) -> None:
    """Shards as webdataset writes them: an image beside its class, under one key."""
    turns = itertools.cycle(files)
    for shard in range(shards):
        with tarfile.open(folder / f"train-{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(images):
                for ending, data in (("jpg", next(turns)), ("cls", b"1")):
                    entry = tarfile.TarInfo(f"{shard:05d}{number:05d}.{ending}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
