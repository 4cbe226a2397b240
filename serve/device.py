"""Marks a replica whose accelerator failed, so that Serve replaces it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from serve.errors import DeviceLostError

logger = logging.getLogger("ray.serve")


class DeviceGuard:
    """Remembers that the accelerator failed. Its context is lost with the process: every later request would fail."""

    def __init__(self) -> None:
        self._lost = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Watch a block; DeviceLostError if the accelerator fails in it."""
        try:
            yield
        except torch.AcceleratorError as error:
            self._lost = True
            logger.exception("the accelerator failed; this replica is to be replaced")
            raise DeviceLostError("a part of the service lost its GPU and is being replaced; send it again") from error

    def check(self) -> None:
        """For `check_health`; DeviceLostError once the accelerator has failed, and Serve replaces the replica."""
        if self._lost:
            raise DeviceLostError("the accelerator of this replica has failed")
