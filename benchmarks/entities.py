"""Time entity segmentation: SAM's prompt decoder and mask generator against the originals, then E-SAM stage by stage.

    python benchmarks/entities.py                              both parts on the example photographs
    python benchmarks/entities.py --parts sam --sam.model vit_h --sam.device cuda
    python benchmarks/entities.py --parts stages --stages.limit 2

Each part is a script of its own too (`sam_decoder.py`, `entity_stages.py`) and says there what its figures mean. Fails
(exit 1) when answers differ that must agree.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal

import entity_stages
import sam_decoder
import tyro


@dataclass(frozen=True)
class EntitiesBenchmark:
    """What to time."""

    parts: tuple[Literal["sam", "stages"], ...] = ("sam", "stages")
    """sam: against segment_anything; stages: E-SAM."""
    sam: sam_decoder.SamBenchmark = field(default_factory=sam_decoder.SamBenchmark)
    """Settings of the first part."""
    stages: entity_stages.BenchmarkConfig = field(default_factory=entity_stages.BenchmarkConfig)
    """Settings of the second part."""


def main() -> int:
    config = tyro.cli(EntitiesBenchmark, description=__doc__)

    def measure() -> None:
        if "sam" in config.parts:
            sam_decoder.run(config.sam)
        if "stages" in config.parts:
            entity_stages.run(config.stages)

    return sam_decoder.exit_code(measure)


if __name__ == "__main__":
    sys.exit(main())
