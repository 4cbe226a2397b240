"""A web server on the loopback interface that speaks the Openverse API and misbehaves in every way asked for."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

HttpAnswer = tuple[int, dict[str, str], bytes]


@dataclass
class Site:
    """Paths and what they answer; every request is counted, its headers kept, by path; `targets` as they came."""

    base: str = ""
    pages: dict[str, Callable[[dict[str, str], int], HttpAnswer]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    agents: set[str] = field(default_factory=set)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)

    def serve(self, path: str, content: bytes, kind: str = "image/jpeg") -> str:
        """Answer `path` with a file; returns its address."""
        return self.answer(path, lambda query, count: (200, {"Content-Type": kind}, content))

    def answer(self, path: str, page: Callable[[dict[str, str], int], HttpAnswer]) -> str:
        """Answer `path` with what `page(query, number of requests before)` says; returns its address."""
        self.pages[path] = page
        return self.base + path

    def search(self, results: list[dict[str, object]], page_size: int = 3) -> str:
        """An image search over `results`, `page_size` a page; returns its address."""

        def page(query: dict[str, str], count: int) -> HttpAnswer:
            number = int(query["page"])
            matching = [item for item in results if item["license"] in query["license"].split(",")]
            answer = {
                "result_count": len(matching),
                "page_count": -(-len(matching) // page_size),
                "page": number,
                "results": matching[(number - 1) * page_size : number * page_size],
            }
            return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

        return self.answer("/v1/images/", page)


@contextmanager
def website() -> Iterator[Site]:
    """A site on a free port, for the time of the block."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            site.targets.append(self.path)
            before = site.requests[parts.path]
            site.requests[parts.path] += 1
            site.agents.add(self.headers.get("User-Agent", ""))
            site.headers[parts.path] = dict(self.headers.items())
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            page = site.pages.get(parts.path)
            status, headers, content = page(query, before) if page else (404, {}, b"")
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
