"""Shared by the trainings: a budget of minutes, averaged weights, a resumable state on disk, a log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

Report = Callable[[Mapping[str, Any]], None]
"""Takes one line of figures."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and a cosine decay over the budget."""

    learning_rate: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.05
    """Weight decay of matrices; vectors have none."""
    warm_up_steps: int = 100
    """Steps until the learning rate peaks."""
    clip_norm: float = 1.0
    """Largest gradient norm."""
    average_decay: float = 0.998
    """Decay of the running average of the weights, which is what is kept."""
    save_every_s: float = 60.0
    """Seconds between saved states."""


class Trainer:
    """Trains a module until its minutes, counted over interrupted runs, are used up."""

    def __init__(
        self, module: nn.Module, config: OptimizerConfig, minutes: float, state_path: Path, report: Report
    ) -> None:
        """Resumes from the state at `state_path` if there is one."""
        self.module = module
        self.config = config
        self._minutes = minutes
        self._state_path = state_path
        self._report = report
        self.step = 0
        self._before_s = 0.0
        self._started = self._saved = time.monotonic()
        decayed = [p for p in module.parameters() if p.ndim > 1]
        plain = [p for p in module.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
        self._average = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        self._sums: dict[str, float] = {}
        self._counted = 0
        if state_path.is_file():
            state = torch.load(state_path, weights_only=True)
            module.load_state_dict(state["module"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._average = state["average"]
            self.step, self._before_s = state["step"], state["seconds"]
        # Not from the clock: every process must take the same turn at the first step.
        self._progress = self._before_s / max(minutes * 60, 1e-9)

    @property
    def progress(self) -> float:
        """Share of the budget used up at the last step, the same in all processes."""
        return self._progress

    def _measure_progress(self) -> float:
        seconds = self._before_s + time.monotonic() - self._started
        return seconds / max(self._minutes * 60, 1e-9)

    def _average_over_processes(self) -> None:
        """Under `torchrun`, give all processes the mean gradient; their weights are equal."""
        self._progress = self._measure_progress()
        if not distributed.is_initialized():
            return
        parameters = [p for p in self.module.parameters() if p.grad is not None]
        flat = torch.cat(
            [p.grad.flatten() for p in parameters if p.grad is not None] + [torch.tensor([self._progress])]
        )
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        self._progress = float(flat[-1])
        for parameter, mean in zip(parameters, torch.split(flat[:-1], [p.numel() for p in parameters]), strict=True):
            parameter.grad = mean.view_as(parameter)

    def update(self, loss: torch.Tensor, figures: Mapping[str, float]) -> None:
        """One optimizer step; skipped if the gradient is not finite."""
        config = self.config
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress))) * 0.97 + 0.03
        rate = config.learning_rate * decay * min(1.0, (self.step + 1) / config.warm_up_steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.step += 1
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._average_over_processes()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), config.clip_norm)
        if bool(norm.isfinite()):
            self._optimizer.step()
        weight = 1 - min(config.average_decay, (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            for name, tensor in self.module.state_dict().items():
                kept = self._average[name]
                if tensor.is_floating_point():
                    kept.lerp_(tensor, weight)
                else:
                    kept.copy_(tensor)
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._counted += 1
        if self.step % 50 == 0:
            self.report_means()
        if time.monotonic() - self._saved > config.save_every_s:
            self.save()

    def report_means(self) -> None:
        if self._counted:
            means = {name: round(total / self._counted, 4) for name, total in self._sums.items()}
            self._report({"step": self.step, "progress": round(min(1.0, self.progress), 3), **means})
        self._sums, self._counted = {}, 0

    def averaged(self) -> dict[str, torch.Tensor]:
        """The averaged weights as a state dictionary."""
        return {name: tensor.clone() for name, tensor in self._average.items()}

    def save(self) -> None:
        """Write the state atomically; under `torchrun` only the first process does."""
        self._saved = time.monotonic()
        if not is_first_process():
            return
        aside = self._state_path.with_name(self._state_path.name + ".part")
        torch.save(
            {
                "module": self.module.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "average": self._average,
                "step": self.step,
                "seconds": self._before_s + time.monotonic() - self._started,
            },
            aside,
        )
        aside.replace(self._state_path)


def is_first_process() -> bool:
    return not distributed.is_initialized() or distributed.get_rank() == 0


def file_report(path: Path, stage: str) -> Report:
    """Append figures to `path` as lines of JSON, and print them."""

    def report(figures: Mapping[str, Any]) -> None:
        if not is_first_process():
            return
        line = json.dumps({"stage": stage, **figures})
        print(line, flush=True)
        with path.open("a") as file:
            file.write(line + "\n")

    return report
