"""Lets several images take turns at one model, and times their calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch

from everymask.backbone.protocol import PromptableBackbone


@dataclass
class StageSeconds:
    """Seconds for one or more images, by stage.

    Attributes:
        decode: from the file's bytes to the encoder's input, scaling included.
        embed: in the image encoder.
        prompts: in the prompt decoder and enlarging masks.
        refine: everything else between embedding and labels, waiting for the device included.
        device: computing time of the device; for a CPU, the sum of `embed` and `prompts`.
    """

    decode: float = 0.0
    embed: float = 0.0
    prompts: float = 0.0
    refine: float = 0.0
    device: float = 0.0

    def add(self, other: StageSeconds) -> None:
        for stage in fields(self):
            setattr(self, stage.name, getattr(self, stage.name) + getattr(other, stage.name))


_STAGES = {
    "embed": "embed",
    "embed_prepared": "embed",
    "decode_points": "prompts",
    "decode_sure_points": "prompts",
    "decode_clicks": "prompts",
    "full_resolution_logits": "prompts",
    "view_for_concepts": "prompts",
    "find_concepts": "prompts",
    "find_alike": "prompts",
}
"""The calls that keep a device busy, with their stages."""


class TakesTurns:
    """A backbone for one image in work; only one call at a time reaches the model.

    Two batches of prompts on one device would need twice the memory and be no faster.

    Attributes:
        spent: time of the calls; `settle` completes it.
        waited_s: seconds spent on calls, waiting included.
    """

    def __init__(self, backbone: PromptableBackbone, turn: threading.Lock) -> None:
        self._backbone = backbone
        self._turn = turn
        self._on_gpu = backbone.device.type == "cuda"
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self.spent = StageSeconds()
        self.waited_s = 0.0

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._backbone, name)
        if name not in _STAGES:
            return attribute

        def take_turn(*args: Any, **options: Any) -> Any:
            with self._timed(_STAGES[name]):
                return attribute(*args, **options)

        return take_turn

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        asked = time.perf_counter()
        try:
            with self._turn:
                began = time.perf_counter()
                first = self._event()
                try:
                    yield
                finally:
                    last = self._event()
                    seconds = time.perf_counter() - began
                    setattr(self.spent, stage, getattr(self.spent, stage) + seconds)
                    if first is not None and last is not None:
                        self._events.append((first, last))
                    else:
                        self.spent.device += seconds
        finally:
            self.waited_s += time.perf_counter() - asked

    def _event(self) -> torch.cuda.Event | None:
        """A mark in the GPU's queue, because calls return long before the GPU is done."""
        if not self._on_gpu:
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._backbone.device))
        return event

    def settle(self) -> StageSeconds:
        """The calls' times, once the device has finished them."""
        for first, last in self._events:
            last.synchronize()
            self.spent.device += first.elapsed_time(last) / 1000
        self._events.clear()
        return self.spent
