"""What `everymask serve` prints: that it starts, that it is ready, and what goes wrong between."""

from __future__ import annotations

import re
import sys
import threading
import urllib.error
import urllib.request
from typing import IO

_NO_NEWS = re.compile(r"\b(?:INFO|DEBUG|SUCC)\b|FutureWarning|warnings\.warn|^\s*$")
_SLOW = re.compile(
    r"Proxy actor re(?:adiness check|ported not ready)|taken more than \d+s to |caused by a slow __init__"
)
"""What Ray Serve warns of, for each part again and again, while a busy machine starts the service."""
_ASK_EVERY_S = 0.5


class ServeOutput:
    """Follows Ray Serve's output, and polls the service until it is ready.

    Attributes:
        ready: set when it is; warnings that a part waits are then passed on one by one.
    """

    def __init__(self, url: str, heads: list[str] | None) -> None:
        self._url = url
        self._heads = heads
        self.ready = threading.Event()
        self._ended = threading.Event()

    def is_ending(self) -> None:
        """Stop asking and stay silent: nobody needs to read how Ray ends."""
        self._ended.set()

    def follow(self, output: IO[bytes]) -> None:
        """Pass on relevant lines until the output ends."""
        print("starting the service; Ctrl-C stops it", flush=True)
        asking = threading.Thread(target=self._tell_when_ready, daemon=True)
        if self._heads is not None:
            asking.start()
        was_slow = False
        for line in output:
            text = line.decode(errors="replace")
            slow = not self.ready.is_set() and _SLOW.search(text)
            if _NO_NEWS.search(text) or (slow and was_slow):
                continue
            if slow:
                was_slow = True
                text = "still starting; if it stays so, `ray status` says what the service waits for\n"
            if not self._ended.is_set():
                print(text, end="", file=sys.stderr, flush=True)
        self._ended.set()

    def _tell_when_ready(self) -> None:
        while not self._ended.wait(_ASK_EVERY_S):
            if self._is_ready():
                self.ready.set()
                folders = ", ".join(self._heads or ())
                print(f"ready at {self._url}; class heads are looked for in {folders}", flush=True)
                print(f"next, for a page of it: everymask ui --endpoint {self._url}", flush=True)
                return

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False
