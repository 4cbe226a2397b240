"""Peak memory of many names on one large photograph, beside the weights: SAM 3 in its published size, random weights.

    python benchmarks/concept_memory.py --json benchmarks/results/concept-memory.json

Random weights find nothing. With a least score of 0 every name keeps all of its 200 masks, which is the most memory
that names can take: no real picture keeps as many. Runs on the CPU, in 32 bits, on Linux; takes minutes.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import Sam3Config

from everymask.backbone.sam3 import Sam3Architecture, Sam3Backbone, build_sam3
from everymask.backbone.sam3.detector import ConceptDetector
from everymask.classes.config import ConceptsConfig
from everymask.evaluation.figure_files import write_figures
from everymask.labelling.config import LabelConfig
from everymask.labelling.label import label_images
from everymask.records import ImageLabels


@dataclass(frozen=True)
class MemoryConfig:
    """Measure the memory of names."""

    names: int = 100
    """How many."""
    size_hw: tuple[int, int] = (4000, 6000)
    """Of the photograph, in pixels."""
    threads: int = 2
    """torch threads."""
    json: Path | None = None
    """Also write the figures to this file."""


def vocabulary(names: int) -> Tokenizer:
    """Words that stand in for CLIP's, with the two marks around them."""
    words = {word: index for index, word in enumerate(["<start>", "<end>", *(f"name{i}" for i in range(names))])}
    made = Tokenizer(WordLevel(words, unk_token="<end>"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)])
    return made


def random_sam3(names: int) -> Sam3Backbone:
    """A SAM 3 of the published size, with its detector."""
    torch.manual_seed(0)
    backbone = Sam3Backbone(
        build_sam3(Sam3Architecture()),
        name="sam3",
        weights_sha256="0" * 64,
        device=torch.device("cpu"),
        read_detector=lambda: ConceptDetector(Sam3Config(), vocabulary(names)),
    )
    backbone.load_concepts()
    return backbone


def photograph(size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Coloured waves, (H, W, 3) uint8."""
    ys, xs = np.arange(size_hw[0], dtype=np.float32), np.arange(size_hw[1], dtype=np.float32)
    waves = [np.sin(ys / (90 + 40 * i))[:, None] * np.sin(xs / (130 + 30 * i))[None] for i in range(3)]
    return np.stack([(128 + 100 * wave).astype(np.uint8) for wave in waves], axis=-1)


def resident_gib(field: str) -> float:
    """Memory of this process from `/proc`: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith(f"{field}:"))


def measure(config: MemoryConfig) -> dict[str, Any]:
    torch.set_num_threads(config.threads)
    backbone = random_sam3(config.names)
    image = photograph(config.size_hw)
    named = ConceptsConfig(tuple(f"name{i}" for i in range(config.names)), score_thresh=0.0)
    before = resident_gib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    began = time.perf_counter()
    (labels,) = label_images(backbone, [image], LabelConfig("concepts", concepts=named))
    seconds = time.perf_counter() - began
    if not isinstance(labels, ImageLabels):
        raise labels
    return {
        "megapixels": config.size_hw[0] * config.size_hw[1] // 10**6,
        "masks": len(labels.masks),
        "GiB-weights": round(before, 2),
        "GiB-beside": round(resident_gib("VmHWM") - before, 2),
        "seconds": round(seconds),
    }


def main() -> None:
    config = tyro.cli(MemoryConfig, description=__doc__)
    figures = {f"{config.names} names": measure(config)}
    print(figures)
    if config.json is not None:
        write_figures(config.json, figures, {})


if __name__ == "__main__":
    main()
