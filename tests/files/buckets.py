"""A loopback bucket of S3 that counts its requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.server import ThreadedMotoServer


@dataclass
class Bucket:
    """The bucket `photos`.

    Attributes:
        client: of boto3, whose requests count, too.
        requests: `PUT /photos/a.jpg`, in order, without parameters but those that say what is asked.
        failures: statuses of the next answers, in place of what the server would have said.
    """

    server: str
    client: Any = None
    requests: list[str] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)

    def uri(self, key: str) -> str:
        """The address of an object."""
        return f"s3://photos/{key}?endpoint_override={self.server}&scheme=http&region=us-east-1"


@contextmanager
def counting_bucket() -> Iterator[Bucket]:
    """An empty bucket on loopback, while the context lasts."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = Bucket(f"{host}:{port}")
    inner = server._server.app  # type: ignore[union-attr]

    def counted(environ: dict[str, Any], start_response: Any) -> Any:
        bucket.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")
        if bucket.failures:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(f"{bucket.failures.pop(0)} as asked", [("Content-Length", "0")])
            return [b""]
        return inner(environ, start_response)

    server._server.app = counted  # type: ignore[union-attr]
    try:
        bucket.client = boto3.client("s3", endpoint_url=f"http://{bucket.server}", region_name="us-east-1")
        bucket.client.create_bucket(Bucket="photos")
        bucket.requests.clear()
        yield bucket
    finally:
        server.stop()
