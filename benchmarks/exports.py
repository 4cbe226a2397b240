"""How fast a label store is exported, and in how much memory: a synthetic store of entities, one process.

    python benchmarks/exports.py                                  1,000 images of 640 x 480 with 30 masks
    python benchmarks/exports.py --images 10000 --formats coco cvat

Prints images for each second of CPU time, and the process's peak memory before and after each export. The masks written
are compared with the store's by the export itself, and anything but IoU 1 is an error where the format is exact. The
images themselves are left out.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tyro

from everymask.formats.export import ExportRequest, export
from everymask.formats.registry import find_format
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

    images: int = 1000
    """Images in the store."""
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
    """Formats, with a way to write masks behind a colon."""


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
    config = tyro.cli(Config, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore(f"{folder}/labels")
        distinct = [regions(config, seed) for seed in range(min(_DISTINCT, config.images))]
        for start in range(0, config.images, _IMAGES_PER_PART):
            numbers = range(start, min(start + _IMAGES_PER_PART, config.images))
            store.write_part(
                to_table(ImageRow(f"{n:07d}.jpg", f"{n:07d}.jpg", distinct[n % len(distinct)]) for n in numbers)
            )
        for entry in config.formats:
            name, _, segmentation = entry.partition(":")
            chosen = find_format(name)
            options = chosen.options(segmentation or None, None, None, "benchmark")
            limit = 0.0 if chosen.exact else None
            request = ExportRequest(
                chosen, options, f"{folder}/out-{name}-{segmentation}{chosen.suffix}", max_loss=limit
            )
            before, started = _peak_mib(), time.process_time()
            report = export(store, request)
            seconds = time.process_time() - started
            figures = {
                "format": entry,
                "images": report.images,
                "masks": report.masks,
                "images_per_cpu_s": round(report.images / seconds, 1),
                "peak_mib_before": round(before),
                "peak_mib": round(_peak_mib()),
            }
            print(json.dumps(figures), flush=True)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
