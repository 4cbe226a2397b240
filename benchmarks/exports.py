"""How fast a label store is exported, and in how much memory: a synthetic store of entities.

    python benchmarks/exports.py                                  1,000 images of 640 x 480 with 30 masks
    python benchmarks/exports.py --images 10000 --formats coco cvat
    python benchmarks/exports.py --processes 1 2                  the same export by one process and by two
    python benchmarks/exports.py --images 100000 --masks 7        a large store
    python benchmarks/exports.py --images 2000 100000 --masks 2 --width 64 --height 48 --formats all    memory

Prints images for each second of CPU time and of the clock, and the peak memory of the exporting process, which is a
process of its own. The masks written are compared with the store by the
export itself, and anything but IoU 1 is an error where the format is exact. The images themselves are left out.
`--json` keeps the figures, after each export.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tyro

from everymask.cores import usable_cores
from everymask.formats.export import ExportRequest, export
from everymask.formats.processes import write_here, write_in_processes
from everymask.formats.registry import FORMATS, find_format
from everymask.labels.mask_ids import with_mask_ids
from everymask.labels.rows import ImageRow, to_table
from everymask.labels.store import LabelStore
from everymask.masks.rle import boxes_from_rles, encode_label_map, rle_areas
from everymask.records import ImageLabels, LabelledMask

_IMAGES_PER_PART = 256
_DISTINCT = 16


@dataclass(frozen=True)
class Config:
    """What to measure."""

    images: tuple[int, ...] = (1000,)
    """Images in the store; several numbers are as many stores."""
    masks: int = 30
    """Masks in each."""
    width: int = 640
    """Width of the images in pixels."""
    height: int = 480
    """Height of the images in pixels."""
    formats: tuple[str, ...] = (
        *("coco", "coco:uncompressed", "coco:polygon", "yolo", "cvat", "label-studio:brush"),
        *("huggingface", "webdataset"),
    )
    """Formats, optionally followed by `:` and a way to write masks; `all` are those that entities can be written to."""
    processes: tuple[int, ...] = (1,)
    """Numbers of writing processes."""
    json: Path | None = None
    """File for the figures."""


def regions(config: Config, seed: int) -> ImageLabels:
    """Disjoint cells around random points, with ragged edges, as entities are."""
    generator = np.random.default_rng(seed)
    size = config.height, config.width
    points = generator.random((config.masks, 2)) * size
    y, x = np.mgrid[: size[0], : size[1]]
    wobble = 6 * np.sin(y / 7 + seed) + 6 * np.sin(x / 9)
    distance = np.stack([np.hypot(y - py + wobble, x - px) for py, px in points])
    rles = encode_label_map(distance.argmin(axis=0), config.masks)
    boxes, areas = boxes_from_rles(rles).tolist(), rle_areas(rles).tolist()
    masks = [
        LabelledMask(rle, tuple(box), area, 0.9, 0.9, (1.0, 1.0), 1 - number / config.masks)
        for number, (rle, box, area) in enumerate(zip(rles, boxes, areas, strict=True))
        if area
    ]
    return with_mask_ids(ImageLabels(size, tuple(masks), 1.0), None, "")


def main() -> None:
    from everymask.evaluation.figure_files import write_figures  # PyTorch, which the measured process must not load

    config = tyro.cli(Config, description=__doc__)
    print(json.dumps(machine()), flush=True)
    figures: dict[str, dict[str, float]] = {}
    for images in config.images:
        with tempfile.TemporaryDirectory() as folder:
            store = synthetic_store(config, images, folder)
            for entry in all_entries() if config.formats == ("all",) else config.formats:
                for processes in config.processes:
                    with ProcessPoolExecutor(1, get_context("spawn")) as apart:
                        found = apart.submit(measured, store, entry, processes, folder).result()
                    name = ", ".join(
                        [entry]
                        + [f"{images:,} images"] * (len(config.images) > 1)
                        + [f"processes: {processes}"] * (len(config.processes) > 1)
                    )
                    print(name, json.dumps(found), flush=True)
                    figures[name] = found
                    if config.json is not None:
                        write_figures(config.json, figures, {})


def synthetic_store(config: Config, images: int, folder: str) -> LabelStore:
    """A label store whose images take turns with a few label maps."""
    store = LabelStore(f"{folder}/labels")
    distinct = [regions(config, seed) for seed in range(min(_DISTINCT, images))]
    for start in range(0, images, _IMAGES_PER_PART):
        numbers = range(start, min(start + _IMAGES_PER_PART, images))
        store.write_part(
            to_table(ImageRow(f"{n:07d}.jpg", f"{n:07d}.jpg", distinct[n % len(distinct)]) for n in numbers)
        )
    return store


def all_entries() -> list[str]:
    """Every format that takes labels without classes, with each way to write masks."""
    formats = [chosen for chosen in FORMATS.values() if chosen.name != "semantic-png"]
    return [
        f"{chosen.name}:{way}" if way else chosen.name for chosen in formats for way in chosen.segmentations or [""]
    ]


def machine() -> dict[str, object]:
    """The machine behind the figures: processor, cores and load."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = next(line for line in text.splitlines() if line.startswith("flags")).split()
    model = next(line for line in text.splitlines() if line.startswith("model name")).partition(": ")[2]
    vectors = [flag for flag in ("avx2", "avx512f") if flag in flags]
    return {"processor": model, "vectors": vectors, "cores": usable_cores(), "load": os.getloadavg()[0]}


def measured(store: LabelStore, entry: str, processes: int, folder: str) -> dict[str, float]:
    """One export."""
    name, _, segmentation = entry.partition(":")
    chosen = find_format(name)
    options = chosen.options(segmentation or None, None, None, "benchmark")
    output = f"{folder}/out-{name}-{segmentation}-{processes}{chosen.suffix}"
    request = ExportRequest(
        chosen, options, output, max_loss=0.0 if chosen.exact and not options.tolerance_px else None
    )
    started, clock = _cpu_seconds(), time.perf_counter()
    report = export(store, request, write_shares=write_in_processes(processes) if processes > 1 else write_here)
    seconds, elapsed = _cpu_seconds() - started, time.perf_counter() - clock
    return {
        "images": report.images,
        "images/CPU-s": round(report.images / seconds),
        "images/s": round(report.images / elapsed),
        "MiB": round(_peak_mib()),
    }


def _cpu_seconds() -> float:
    """Of this process and the children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _peak_mib() -> float:
    """Of this process; what `getrusage` says would be at least that of the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main()
