"""Serves an open file to another program on this machine: by ranges, at a loopback address, while it is needed."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa

_PIECE_BYTES = 4 * 2**20
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_POLL_S, _PATIENCE_S = 0.02, 60


@dataclass
class Served:
    """A served file.

    Attributes:
        url: `http://127.0.0.1:PORT/SECRET`; no one else on the machine can guess it.
        failure: why reading the file failed, or None.
    """

    url: str
    failure: OSError | None = None


@contextmanager
def served(file: pa.NativeFile) -> Iterator[Served]:
    """Serve a file while the context lasts.

    Only requested ranges are read, and at most 4 MiB of them are held, however large the file is and wherever it lies.

    Raises:
        OSError: (on leaving) a requested range could not be read.
    """
    size, secret = file.size(), f"/{secrets.token_urlsafe()}"

    class Answers(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S

        def do_GET(self) -> None:
            wanted = _RANGE.fullmatch(self.headers.get("Range", "bytes=0-"))
            first = int(wanted[1]) if wanted else 0
            last = min(int(wanted[2]), size - 1) if wanted and wanted[2] else size - 1
            if self.path != secret:
                self.send_error(404)
            elif first > last:
                self.send_error(416)
            else:
                self._send(first, last)

        def _send(self, first: int, last: int) -> None:
            self.send_response(206)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            try:
                for start in range(first, last + 1, _PIECE_BYTES):
                    self.wfile.write(file.read_at(min(_PIECE_BYTES, last + 1 - start), start))
            except (ConnectionError, TimeoutError):  # whoever read has what it wanted
                return
            except OSError as error:
                place.failure = error

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = False  # leaving waits for them: the file is closed afterwards
        place = Served(f"http://127.0.0.1:{server.server_port}{secret}")
        thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
        thread.start()
        try:
            yield place
        finally:
            server.shutdown()
            thread.join()
    if place.failure is not None:
        raise place.failure
