"""What a run spent its time on: kept in run.json, and told at its end and by `everymask report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from everymask.labels.overview import Overview
from everymask.wording import counted

STAGES = ("read", "decode", "embed", "prompts", "refine", "write")
"""In the order in which an image passes them."""


@dataclass(frozen=True)
class RunSummary:
    """One or several attempts of a run.

    Attributes:
        images: labelled.
        seconds: by stage, summed over workers, which overlap.
        worker_s: time that the labellers were there, summed over them, the loading of weights included.
        device_s: time in which their GPUs (or models on the CPU) computed.
        gpus_per_worker: 0 on the CPU.
        overview: kinds of errors, and the slowest images.
        gpu_hours: of all workers.
    """

    images: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    worker_s: float = 0.0
    device_s: float = 0.0
    gpus_per_worker: float = 0.0
    overview: Overview = field(default_factory=Overview)
    gpu_hours: float = 0.0

    def __add__(self, other: RunSummary) -> RunSummary:
        stages = self.seconds.keys() | other.seconds.keys()
        return RunSummary(
            self.images + other.images,
            {stage: self.seconds.get(stage, 0.0) + other.seconds.get(stage, 0.0) for stage in stages},
            self.worker_s + other.worker_s,
            self.device_s + other.device_s,
            max(self.gpus_per_worker, other.gpus_per_worker),
            self.overview + other.overview,
            self.gpu_hours + other.gpu_hours,
        )

    @property
    def busy_share(self) -> float:
        """Share of the workers' time in which their device computed, 0 to 1."""
        return min(self.device_s / self.worker_s, 1.0) if self.worker_s else 0.0

    def as_tree(self, price_per_gpu_hour: float | None = None) -> dict[str, Any]:
        """For run.json; the cost is there if the price is known and the run had GPUs."""
        tree: dict[str, Any] = {
            "images": self.images,
            "seconds": {stage: round(self.seconds[stage], 3) for stage in STAGES if stage in self.seconds},
            "worker_seconds": round(self.worker_s, 3),
            "device_seconds": round(self.device_s, 3),
            "gpus_per_worker": self.gpus_per_worker,
            "gpu_hours": round(self.gpu_hours, 6),
        }
        if price_per_gpu_hour is not None and self.gpus_per_worker:
            tree["cost"] = round(self.gpu_hours * price_per_gpu_hour, 4)
        return tree | self.overview.as_tree()

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> RunSummary:
        """Read again what `as_tree` gave, without the cost."""
        return cls(
            tree["images"],
            tree["seconds"],
            tree["worker_seconds"],
            tree["device_seconds"],
            tree["gpus_per_worker"],
            Overview.from_tree(tree),
            tree["gpu_hours"],
        )

    def lines(self, cost: float | None = None) -> list[str]:
        """For a person: seconds by stage, how busy the device was, and what stands out."""
        lines = []
        if self.seconds:
            stages = ", ".join(f"{stage} {self.seconds[stage]:.3g}" for stage in STAGES if stage in self.seconds)
            lines.append(f"seconds by stage, of {counted(self.images, 'image')}: {stages}")
        if self.worker_s:
            device = "GPUs" if self.gpus_per_worker else "the model"
            line = f"{device} computed for {self.busy_share:.0%} of the workers' {self.worker_s:.3g} s"
            if self.gpus_per_worker:
                line += f"; {self.gpu_hours:.3g} GPU-hours"
                line += "" if cost is None else f", cost {cost:.3g}"
            lines.append(line)
        return [*lines, *self.overview.lines()]
