"""The programs `ffmpeg` and `ffprobe`, run on files that may be hostile.

They can reach only the one file's address, open it only as MP4 or Matroska (a playlist named `.mp4` would name files of
its own), see no proxy, and are ended after a minute without output.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from everymask.errors import ConfigurationError

_SAFE = ("-v", "error", "-protocol_whitelist", "http,tcp", "-format_whitelist", "mov,matroska")
_PATIENCE_S = 60.0
_MOST_SAID = 2000
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\S+?(: |$)")


class Program:
    """`NAME … -i URL …` as a running program, which ends with its context.

    Args:
        name: ffmpeg or ffprobe.
        before: arguments before the address.
        url: the input.
        after: arguments behind it.

    Raises:
        ConfigurationError: it is not installed.
    """

    def __init__(self, name: str, before: Sequence[str], url: str, after: Sequence[str] = ()) -> None:
        command = [find_program(name), *_SAFE, *before, "-i", url, *after]
        environment = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        )
        assert self._process.stdout is not None
        self._out = self._process.stdout
        self._said = bytearray()
        self._given_up = False
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self._out.close()

    def read(self, size: int) -> bytes:
        """At most `size` bytes of its output; fewer at the end."""
        with self._patience():
            return self._out.read(size)

    def lines(self) -> Iterator[str]:
        """Its output, line by line."""
        while True:
            with self._patience():
                line = self._out.readline()
            if not line:
                return
            yield line.decode(errors="replace").strip()

    def complaint(self) -> str:
        """Its error in one line, or nothing; waits for its end, so its output must have been read."""
        with self._patience():
            self._process.wait()
        self._listener.join()
        if self._given_up:
            return f"nothing came of it for {_PATIENCE_S:g} s"
        lines = self._said.decode(errors="replace").splitlines()
        return _ADDRESS.sub("", lines[0].rpartition("] ")[2]).strip() if lines else ""

    @contextmanager
    def _patience(self) -> Iterator[None]:
        timer = threading.Timer(_PATIENCE_S, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._given_up = True
        self._process.kill()

    def _listen(self) -> None:
        """Keep the beginning of its errors: a damaged video gives megabytes of them."""
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in iter(lambda: stream.readline(_MOST_SAID), b""):
                self._said += line[: _MOST_SAID - len(self._said)]


def find_program(name: str) -> str:
    """The program's path.

    Raises:
        ConfigurationError: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise ConfigurationError(f"videos need the program {name} on the path of every machine; apt-get install ffmpeg")
    return path
