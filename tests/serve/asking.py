"""The gate of the service, asked as an ASGI server asks it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from serve.auth import ApiKeys
from serve.gate import Gate
from serve.settings import RequestLimits

OPEN = ApiKeys(None)


def scope(method: str = "POST", path: str = "/v1/entities", prefix: str = "", **headers: str) -> dict[str, Any]:
    named = {"x-request-id": "request-7", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http",
        "method": method,
        # As Serve passes it on: the whole path, and the route prefix beside it.
        "path": prefix + path,
        "root_path": prefix,
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
    }


class Client:
    """One request to an ASGI app: a body in pieces, and the answer."""

    def __init__(self, *body: bytes) -> None:
        self._messages = [
            {"type": "http.request", "body": part, "more_body": i + 1 < len(body)} for i, part in enumerate(body)
        ]
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        return self._messages.pop(0) if self._messages else {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def error(self) -> dict[str, str]:
        error: dict[str, str] = json.loads(self.sent[1]["body"])["error"]
        return error


async def read_all(scope: Any, receive: Any, send: Any) -> None:
    """An app that reads its body and answers its length."""
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def gate(
    app: Callable[..., Awaitable[None]] = read_all,
    keys: ApiKeys = OPEN,
    max_body_bytes: int = 100,
    max_uploads: int = 50,
    **limits: Any,
) -> Gate:
    return Gate(app, keys, RequestLimits(**limits), max_body_bytes, max_uploads)
