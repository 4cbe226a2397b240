"""Bodies on their way: clients that send slowly must not keep the others out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

_GRACE_S = 0.25
"""How long a body has to show how fast it comes."""


class Sender(Protocol):
    """A request whose body is being received."""

    @property
    def seconds(self) -> float:
        """Since it came."""

    @property
    def body_bytes(self) -> int:
        """Received so far."""


@dataclass(frozen=True, eq=False)
class _Upload:
    sender: Sender
    patience: asyncio.Timeout

    @property
    def bytes_per_s(self) -> float:
        return self.sender.body_bytes / max(self.sender.seconds, _GRACE_S)


class Uploads:
    """At most so many at a time; when one more comes, the slowest is given up. For one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._uploads: list[_Upload] = []

    @contextmanager
    def one(self, sender: Sender, patience: asyncio.Timeout) -> Iterator[None]:
        """Count a body while it is received; `patience` runs out when it is given up."""
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
