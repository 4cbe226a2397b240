"""What stands before every request: API keys, a bound on requests in flight, a size limit, a time limit; and after it:
the error table, metrics and the log line."""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.auth import ApiKeys
from serve.errors import INTERNAL, ServiceError, to_service_error
from serve.metrics import HttpMetrics
from serve.schema import ErrorAnswer, ErrorDetail
from serve.settings import RequestLimits

logger = logging.getLogger("ray.serve")

REQUEST_ID_HEADER = "x-request-id"
_PROTECTED = "/v1/"
CLIENT_CLOSED = 499
"""Logged when the client left before its answer; nobody receives it."""


def error_response(error: ServiceError, request_id: str) -> JSONResponse:
    """An error as the API says it."""
    body = ErrorAnswer(error=ErrorDetail(code=error.code, message=error.message, request_id=request_id))
    return JSONResponse(body.model_dump(), status_code=error.status, headers=error.headers)


class Gate:
    """ASGI middleware around the whole API. One per ingress replica."""

    def __init__(self, app: ASGIApp, keys: ApiKeys, limits: RequestLimits, max_body_bytes: int) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._in_flight = 0
        self._metrics = HttpMetrics()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        await _Exchange(scope, receive, send, self._max_body_bytes).run(self)

    async def admit(self, exchange: _Exchange) -> None:
        """Check the key, take a place, and pass the request on, for as long as the time limit allows.

        Raises:
            ServiceError: 401, 413 or 429.
            TimeoutError: the time limit.
            Exception: whatever the API raises.
        """
        if exchange.path.startswith(_PROTECTED) and not self._keys.allow(exchange.headers.get("authorization")):
            raise ServiceError(
                401,
                "unauthorized",
                "this service needs an API key: send the header Authorization: Bearer KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        if exchange.scope["method"] != "POST":
            await self._app(exchange.scope, exchange.receive, exchange.send)
            return
        exchange.check_length()
        if self._in_flight >= self._limits.max_in_flight:
            raise ServiceError(
                429,
                "overloaded",
                f"the service is busy; send the request again in {self._limits.retry_after_s} s",
                {"Retry-After": str(self._limits.retry_after_s)},
            )
        self._in_flight += 1
        self._metrics.in_flight(self._in_flight)
        try:
            async with asyncio.timeout(self._limits.time_limit_s):
                await self._app(exchange.scope, exchange.receive, exchange.send)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight(self._in_flight)

    async def refuse(self, exchange: _Exchange, error: Exception) -> None:
        """Answer an error, and log those that are the service's own fault."""
        answer = to_service_error(error, self._limits.retry_after_s)
        if answer is INTERNAL:
            logger.error("unexpected error on %s", exchange.path, exc_info=error)
        if not exchange.started:
            await error_response(answer, exchange.request_id)(exchange.scope, exchange.receive, exchange.send)

    def count(self, exchange: _Exchange) -> None:
        """Note an answered request."""
        route = exchange.scope.get("route")
        # Unrouted paths are the client's invention and must not become metric labels.
        self._metrics.answered(getattr(route, "path", "unknown"), exchange.status, exchange.seconds)


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_body_bytes: int) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.path: str = scope["path"]
        self.request_id = self.headers.get(REQUEST_ID_HEADER, "")
        self.started = False
        self.status = CLIENT_CLOSED
        self._receive = receive
        self._send = send
        self._max_body_bytes = max_body_bytes
        self._received_bytes = 0
        self._start = time.perf_counter()
        scope.setdefault("state", {})["started_at"] = self._start

    @property
    def seconds(self) -> float:
        """Since the request came."""
        return time.perf_counter() - self._start

    async def run(self, gate: Gate) -> None:
        """From the first byte to the answer, whatever happens in between."""
        try:
            await gate.admit(self)
        except ClientDisconnect:
            self.status = CLIENT_CLOSED
        except Exception as error:
            await gate.refuse(self, error)
        finally:
            gate.count(self)

    def check_length(self) -> None:
        """Refuse a body that says itself that it is too large, before it is read."""
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            raise self._too_large()

    async def receive(self) -> Message:
        """The client's next message; a body may not say its length, so it is counted as well."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._received_bytes += len(message.get("body", b""))
            if self._received_bytes > self._max_body_bytes:
                raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        """The answer's next message."""
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
        await self._send(message)

    def _too_large(self) -> ServiceError:
        return ServiceError(
            413, "body_too_large", f"the request has more bytes than the limit of {self._max_body_bytes:,}"
        )
