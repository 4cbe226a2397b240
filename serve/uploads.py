"""Bodies being received: slow clients must not keep out the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

_GRACE_S = 0.25
"""Seconds before a body's speed counts."""


class Sender(Protocol):
    """A request whose body is being received."""

    @property
    def seconds(self) -> float:
        """Seconds since it came."""

    @property
    def body_bytes(self) -> int:
        """Bytes received so far."""


@dataclass(frozen=True, eq=False)
class _Upload:
    sender: Sender
    patience: asyncio.Timeout

    @property
    def bytes_per_s(self) -> float:
        return self.sender.body_bytes / max(self.sender.seconds, _GRACE_S)


class Uploads:
    """At most `most` at a time; for one more, the slowest is given up. For one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._uploads: list[_Upload] = []

    @contextmanager
    def one(self, sender: Sender, patience: asyncio.Timeout) -> Iterator[None]:
        """Count a body while it is received; `patience` expires if it is given up."""
        if len(self._uploads) >= self._most:
            self._give_up_the_slowest()
        upload = _Upload(sender, patience)
        self._uploads.append(upload)
        try:
            yield
        finally:
            if upload in self._uploads:
                self._uploads.remove(upload)

    def _give_up_the_slowest(self) -> None:
        shown = [upload for upload in self._uploads if upload.sender.seconds > _GRACE_S]
        slowest = min(shown, key=lambda upload: upload.bytes_per_s) if shown else self._uploads[0]
        self._uploads.remove(slowest)
        slowest.patience.reschedule(0)
