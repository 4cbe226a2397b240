"""Peak memory of a labeller with one, two and four images in work, each labeller in a process of its own.

    python benchmarks/overlap_memory.py                              E-SAM with nano: 640 x 480, and 24 megapixels
    python benchmarks/overlap_memory.py --model vit_b --method amg   another model, SAM's automatic masks

`nothing in work` is the memory of the process when the model is loaded and one small image is labelled.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import tyro
from PIL import Image

from benchmarks.overlap import as_png
from benchmarks.scaling_driver import resident_peak_bytes
from everymask.backbone.registry import load_backbone
from everymask.evaluation.figure_files import weights_of, write_figures
from everymask.images.decoding import decode_image
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import ImageLabeller
from everymask.labelling.methods.table import MethodName
from everymask.labelling.overlap import OverlappedLabeller
from everymask.records import ImageLabels

PHOTOGRAPH = Path(__file__).resolve().parent.parent / "examples" / "images" / "coffee.jpg"
SMALL_HW = (480, 640)


@dataclass(frozen=True)
class OverlapMemory:
    """What to measure."""

    model: str = "nano"
    """Backbone."""
    method: MethodName = "entities"
    """How images are labelled."""
    sizes_hw: tuple[tuple[int, int], ...] = (SMALL_HW, (4000, 6000))
    """Heights and widths of the images in pixels."""
    in_work: tuple[int, ...] = (1, 2, 4)
    """Images refined at once."""
    images: int = 12
    """Images that each labeller labels."""
    json: Path | None = None
    """Also write the figures to this file."""


def peak_mib(config: OverlapMemory, size_hw: tuple[int, int], in_work: int | None) -> int:
    """Of this process, after a labeller's images; None labels a single small one."""
    torch.set_num_threads(1)
    backbone = load_backbone(config.model)
    steps = ImageLabeller(LabelConfig(method=config.method))
    height, width = size_hw if in_work else SMALL_HW
    picture = Image.fromarray(decode_image(PHOTOGRAPH.read_bytes())).resize((width, height))
    labeller = OverlappedLabeller(backbone, steps, at_once=in_work or 0)
    for (found,) in labeller.label([[as_png(np.asarray(picture))]] * (config.images if in_work else 1)):
        if not isinstance(found.result.labels, ImageLabels):
            raise RuntimeError(f"an image of {width} x {height} got no labels: {found.result.labels}")
    return round(resident_peak_bytes(os.getpid()) / 2**20)


def main() -> None:
    config = tyro.cli(OverlapMemory, description=__doc__)
    rows: dict[str, dict[str, int]] = {}
    for name, size_hw, in_work in [
        ("nothing in work", SMALL_HW, None),
        *((f"{w} x {h}, in work: {n}", (h, w), n) for h, w in config.sizes_hw for n in config.in_work),
    ]:
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            rows[name] = {"MiB": apart.submit(peak_mib, config, size_hw, in_work).result()}
        print(f"{name:<28}{rows[name]['MiB']:>8,} MiB", flush=True)
    if config.json is not None:
        write_figures(config.json, rows, weights_of([config.model]))


if __name__ == "__main__":
    main()
