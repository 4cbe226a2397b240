"""A bucket on this machine that lists and hands out empty objects as S3 does, and counts its requests.

    python benchmarks/loopback_bucket.py --objects 1000000

serves them below `photos/` until it is stopped, and prints its port.
"""

from __future__ import annotations

import argparse
import itertools
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"
_PAGE = 1000
_DATE = "2026-01-01T00:00:00.000Z"
_LAST = "\U0010ffff"


@dataclass
class Served:
    """A bucket that is served.

    Attributes:
        port: on loopback.
        requests: what was asked, `GET /bucket?prefix=…`, in order.
        status: of the answers to listings.
        page_seconds: until such an answer comes.
    """

    port: int
    status: int = 200
    page_seconds: float = 0.0
    requests: list[str] = field(default_factory=list)

    def uri(self, prefix: str) -> str:
        """The address of a prefix."""
        return f"s3://{BUCKET}/{prefix}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"


@contextmanager
def serving(keys: Sequence[str]) -> Iterator[Served]:
    """Serve objects with these keys, in ascending order, while the context lasts."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            place.requests.append(f"GET {self.path}")
            time.sleep(place.page_seconds if "list-type" in self.path else 0.0)
            address = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(address.query).items()}
            if "list-type" in asked:
                self._answer(place.status, _listing(keys, asked).encode() if place.status == 200 else b"")
            else:
                self._object(address.path)

        def do_HEAD(self) -> None:
            place.requests.append(f"HEAD {self.path}")
            self._object(urlsplit(self.path).path)

        def _object(self, path: str) -> None:
            key = path.removeprefix(f"/{BUCKET}").lstrip("/")
            there = not key or keys[min(bisect_left(keys, key), len(keys) - 1)] == key
            self._answer(200 if there else 404, b"")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        place = Served(server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield place
        finally:
            server.shutdown()
            thread.join()


def _listing(keys: Sequence[str], asked: dict[str, str]) -> str:
    """The answer to ListObjectsV2. A continuation token is the place in the list."""
    prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter")
    most = min(int(asked.get("max-keys", _PAGE)), _PAGE)
    index = int(asked["continuation-token"]) if "continuation-token" in asked else bisect_left(keys, prefix)
    name = quote if asked.get("encoding-type") == "url" else escape
    items: list[str] = []
    while index < len(keys) and keys[index].startswith(prefix) and len(items) < most:
        key = keys[index]
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        if end >= 0:
            items.append(f"<CommonPrefixes><Prefix>{name(key[: end + 1])}</Prefix></CommonPrefixes>")
            index = bisect_right(keys, key[: end + 1] + _LAST)
        else:
            items.append(
                f"<Contents><Key>{name(key)}</Key><LastModified>{_DATE}</LastModified>"
                '<ETag>"d41d8cd98f00b204e9800998ecf8427e"</ETag><Size>0</Size></Contents>'
            )
            index += 1
    more = index < len(keys) and keys[index].startswith(prefix)
    rest = f"<NextContinuationToken>{index}</NextContinuationToken>" if more else ""
    encoding = "<EncodingType>url</EncodingType>" if name is quote else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix>{name(prefix)}</Prefix><KeyCount>{len(items)}</KeyCount><MaxKeys>{most}</MaxKeys>"
        f"{encoding}<IsTruncated>{str(more).lower()}</IsTruncated>{rest}{''.join(items)}</ListBucketResult>"
    )


def main() -> None:
    """Serve a prefix until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--folders", type=int, default=1)
    parser.add_argument("--page-seconds", type=float, default=0.0)
    options = parser.parse_args()
    folder = (f"{number * options.folders // options.objects:06d}/" for number in range(options.objects))
    folders = folder if options.folders > 1 else itertools.repeat("", options.objects)
    with serving([f"photos/{folder}{number:09d}.jpg" for number, folder in enumerate(folders)]) as place:
        place.page_seconds = options.page_seconds
        print(place.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
