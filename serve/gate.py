"""Stands before every request (API keys, limits on bodies, requests in flight and time) and after it (error table,
metrics, log)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.auth import ApiKeys
from serve.errors import INTERNAL, ServiceError, to_service_error
from serve.metrics import HttpMetrics, StageTimer
from serve.pace import Pace
from serve.schema import ErrorAnswer, ErrorDetail
from serve.settings import RequestLimits
from serve.uploads import Uploads

logger = logging.getLogger("ray.serve")

REQUEST_ID_HEADER = "x-request-id"
DOCS_FILES = "/docs-files"
"""Path of the scripts and styles of the API's description."""
_OPEN = frozenset(
    ["/", "/healthz", "/readyz", "/docs", "/redoc", "/openapi.json"]
    + [
        f"{DOCS_FILES}/{name}"
        for name in ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js", "favicon.png")
    ]
)
"""The only paths that need no key, relative to the route prefix: probes and the API's description."""
CLIENT_CLOSED = 499
"""Logged if the client left before its answer; nobody receives it."""


def error_response(error: ServiceError, request_id: str) -> JSONResponse:
    """An error in the API's form."""
    body = ErrorAnswer(error=ErrorDetail(code=error.code, message=error.message, request_id=request_id))
    return JSONResponse(body.model_dump(), status_code=error.status, headers=error.headers)


class Gate:
    """ASGI middleware around the whole API, one per ingress replica."""

    def __init__(
        self, app: ASGIApp, keys: ApiKeys, limits: RequestLimits, max_body_bytes: int, max_uploads: int
    ) -> None:
        """`max_body_bytes` is of one request; of more than `max_uploads` bodies at a time, the slowest is given up."""
        self._app = app
        self._keys = keys
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._in_flight = 0
        self._body_bytes = 0
        self._uploads = Uploads(max_uploads)
        self._pace = Pace()
        self._metrics = HttpMetrics()
        self._stage = StageTimer()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        try:
            await self._admit(exchange)
        except ClientDisconnect:
            exchange.status = CLIENT_CLOSED
        except Exception as error:
            await self._refuse(exchange, error)
        finally:
            self._count(exchange)

    async def _admit(self, exchange: _Exchange) -> None:
        """Check the key, read the body, take a place, and pass the request on within the time limit.

        Raises:
            ServiceError: 401, 408, 413 or 429.
            TimeoutError: the time limit.
            Exception: whatever the API raises.
        """
        owner = self._keys.owner(exchange.headers.get("authorization"), exchange.headers.get("token"))
        if owner is None and exchange.path not in _OPEN:
            raise ServiceError(
                401,
                "unauthorized",
                "this service needs an API key: send the header Authorization: Bearer KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        exchange.scope["state"] |= {"owner": owner, "spent": {}}
        if exchange.scope["method"] != "POST":
            await self._app(exchange.scope, exchange.receive, exchange.send)
            return
        exchange.check_length(self._max_body_bytes)
        self._check_places()
        try:
            # A place is for work: a client that sends slowly, or never, must not hold one.
            with self._stage("body", exchange.scope["state"]["spent"]):
                await self._read_body(exchange)
            self._check_places()
            await self._pass_on(exchange)
        finally:
            self._body_bytes -= exchange.body_bytes

    async def _read_body(self, exchange: _Exchange) -> None:
        limit_s = self._limits.body_limit_s
        try:
            async with asyncio.timeout(limit_s) as patience:
                with self._uploads.one(exchange, patience):
                    await self._receive_body(exchange)
        except TimeoutError:
            raise ServiceError(
                408,
                "body_timed_out",
                f"the body did not arrive within {limit_s:g} s, or too slowly while many others were on their way",
            ) from None

    async def _receive_body(self, exchange: _Exchange) -> None:
        async for received in exchange.read_body(self._max_body_bytes):
            self._body_bytes += received
            if self._body_bytes > self._limits.max_body_mib * 2**20:
                raise self._busy()

    async def _pass_on(self, exchange: _Exchange) -> None:
        self._in_flight += 1
        self._metrics.in_flight(self._in_flight)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._limits.time_limit_s):
                await self._app(exchange.scope, exchange.receive, exchange.send)
            if exchange.status == 200:
                self._pace.answered(began, time.perf_counter())
        except TimeoutError:
            self._pace.answered(began, time.perf_counter(), in_time=False)
            raise
        finally:
            self._in_flight -= 1
            self._metrics.in_flight(self._in_flight)

    def _check_places(self) -> None:
        if self._in_flight >= self._limits.max_in_flight:
            raise self._busy()
        # One that would be given up after a minute is better told at once. A lone request is always tried.
        if self._in_flight and self._pace.expected_s(self._in_flight) > self._limits.time_limit_s:
            raise self._busy()

    def _busy(self) -> ServiceError:
        wait_s = self._limits.retry_after_s
        return ServiceError(
            429,
            "overloaded",
            f"the service is busy; send the request again in {wait_s} s",
            {"Retry-After": str(wait_s)},
        )

    async def _refuse(self, exchange: _Exchange, error: Exception) -> None:
        """Answer an error, logging those that are the service's fault."""
        answer = to_service_error(error, self._limits.retry_after_s)
        if answer is INTERNAL:
            logger.error("unexpected error on %s", exchange.path, exc_info=error)
        if not exchange.started:
            await error_response(answer, exchange.request_id)(exchange.scope, exchange.receive, exchange.send)

    def _count(self, exchange: _Exchange) -> None:
        """Record an answered request."""
        route = exchange.scope.get("route")
        # Unrouted paths are the client's invention and must not become metric labels.
        self._metrics.answered(getattr(route, "path", "unknown"), exchange.status, exchange.seconds)


class _Exchange:
    """One request: what has come of it, and what became of it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.path = _below_prefix(scope)
        self.request_id = self.headers.get(REQUEST_ID_HEADER, "")
        self.started = False
        self.status = CLIENT_CLOSED
        self.body_bytes = 0
        self._receive = receive
        self._send = send
        self._body: deque[Message] = deque()
        self._start = time.perf_counter()
        scope.setdefault("state", {})["started_at"] = self._start

    @property
    def seconds(self) -> float:
        """Seconds since the request came."""
        return time.perf_counter() - self._start

    def check_length(self, limit: int) -> None:
        """Refuse, before reading, a body whose declared length is too large."""
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            raise _too_large(limit)

    async def read_body(self, limit: int) -> AsyncIterator[int]:
        """Receive and keep the body; yields each piece's size, because the length may not be declared.

        Raises:
            ServiceError: 413.
            ClientDisconnect: the client left.
        """
        more = True
        while more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            received = len(message.get("body", b""))
            self.body_bytes += received
            yield received
            if self.body_bytes > limit:
                raise _too_large(limit)
            self._body.append(message)
            more = message.get("more_body", False)

    async def receive(self) -> Message:
        """The body, piece by piece, then the client's further messages."""
        return self._body.popleft() if self._body else await self._receive()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
        await self._send(message)


def _below_prefix(scope: Scope) -> str:
    """The path relative to Serve's route prefix, for matching routes, by Starlette's own rule."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    below = path.removeprefix(prefix)
    return below if below.startswith("/") or not below else path


def _too_large(limit: int) -> ServiceError:
    return ServiceError(413, "body_too_large", f"the request has more bytes than the limit of {limit:,}")
