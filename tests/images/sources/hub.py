"""A hub of our own on this machine: what of Hugging Face's HTTP API opening a data set needs, over a folder."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@contextmanager
def hub(name: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `folder` as the data set `name`; gives the hub's address, and what was asked of it as it is asked."""
    asked: list[str] = []

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            asked.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
            if path in (f"/api/datasets/{name}", f"/api/datasets/{name}/revision/main"):
                self._json({"id": name, "sha": _COMMIT, "siblings": []})
            elif path.startswith(f"/api/datasets/{name}/tree/main"):
                below = folder / path.removeprefix(f"/api/datasets/{name}/tree/main").strip("/")
                self._json([_entry(folder, inner) for inner in sorted(below.iterdir())])
            elif path.startswith(f"/datasets/{name}/resolve/main/"):
                self._file(folder / path.removeprefix(f"/datasets/{name}/resolve/main/"))
            else:
                self.send_error(404)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(f"POST {self.path} {body['paths']}")
            self._json([_entry(folder, folder / path) for path in body["paths"] if (folder / path).exists()])

        def _json(self, answer: Any) -> None:
            self._send(json.dumps(answer).encode(), "application/json", 200)

        def _file(self, path: Path) -> None:
            content = path.read_bytes()
            wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
            part = content[int(wanted[1]) : int(wanted[2]) + 1] if wanted else content
            self._send(part, "application/octet-stream", 206 if wanted else 200)

        def _send(self, content: bytes, kind: str, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", '"e"')
            self.send_header("X-Repo-Commit", _COMMIT)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    kind = "directory" if path.is_dir() else "file"
    return {
        "type": kind,
        "path": str(path.relative_to(folder)),
        "oid": "0" * 40,
        "size": path.stat().st_size if kind == "file" else 0,
    }
