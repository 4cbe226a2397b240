"""Work on an image that stops between two model calls once nobody waits for the answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, cast

from everymask.backbone.protocol import PromptableBackbone

_R = TypeVar("_R")


class Interrupted(Exception):
    """Raised to end the work; nobody reads it."""


class _Interruptible:
    """A backbone that refuses further calls once its answers are unwanted."""

    def __init__(self, backbone: PromptableBackbone, unwanted: threading.Event) -> None:
        self._backbone = backbone
        self._unwanted = unwanted

    def __getattr__(self, name: str) -> Any:
        if self._unwanted.is_set():
            raise Interrupted
        return getattr(self._backbone, name)


async def run_interruptibly(
    worker: Executor, backbone: PromptableBackbone, work: Callable[[PromptableBackbone], _R]
) -> _R:
    """`work(backbone)` in a worker thread.

    If the caller is cancelled, queued work is dropped. Work in progress ends at its next call of the backbone: a grid
    of prompts takes many calls, so no request holds the worker for long.
    """
    unwanted = threading.Event()
    guarded = cast(PromptableBackbone, _Interruptible(backbone, unwanted))
    try:
        return await asyncio.get_running_loop().run_in_executor(worker, work, guarded)
    except asyncio.CancelledError:
        unwanted.set()
        raise
