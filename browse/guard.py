"""Access control: only this machine, or whoever has the key; and only from the page itself, never another site.

No answer has CORS headers, so other sites read nothing. Nor can they write: a write needs a header that no form can
send, and the page's own origin. An attacker's DNS name for 127.0.0.1 is refused as an unknown host name.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
COOKIE = "everymask_browse"
WRITE_HEADER = "x-everymask"
MAX_BODY_BYTES = 8 * 2**20
_MAX_FORM_BYTES = 4096
MIN_KEY_LENGTH = 16

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>everymask</title>
<link rel="stylesheet" href="/static/page.css">
<form class="login" method="post" action="/login"><h1>everymask</h1>
<p>{message}</p><label>Key <input name="key" type="password" autocomplete="current-password" autofocus></label>
<button>Open</button></form></html>"""


class Guard:
    """ASGI middleware.

    Args:
        names: host names of the page besides this machine's, checked if there is no key.
        key: opens the page; None lets in everyone who reaches it, which should be this machine only.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = (), key: str | None = None) -> None:
        self._app = app
        self._names = LOCAL_NAMES | {name.lower() for name in names}
        self._token = None if key is None else _token(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no websockets here
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        answer: ASGIApp | None = self._refusal(Request(scope))
        body: bytes | None = b""
        if answer is None and scope["method"] == "POST":  # read only of those who may ask
            logs_in = self._logs_in(Request(scope))
            body = await _body(receive, _MAX_FORM_BYTES if logs_in else MAX_BODY_BYTES)
            if body is None:
                answer = PlainTextResponse("the request is too large", 413)
            elif logs_in:
                answer = self._opened(parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0])
        await (answer or self._app)(scope, _replayed(body or b"", receive), send_with_headers)

    def _logs_in(self, request: Request) -> bool:
        return self._token is not None and request.method == "POST" and request.url.path == "/login"

    def _refusal(self, request: Request) -> Response | None:
        """Why a request is not passed on, by its headers; None for one that is."""
        headers, path = request.headers, request.url.path
        if self._token is None and _host_name(headers) not in self._names:
            return PlainTextResponse("this page is not called by that name; open it by its own address", 421)
        opens = request.method == "GET" and path == "/" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not opens:
            return PlainTextResponse("other sites may not ask", 403)
        if request.method not in ("GET", "HEAD", "POST"):
            return PlainTextResponse("only GET and POST", 405, {"Allow": "GET, HEAD, POST"})
        logs_in = self._logs_in(request)
        if request.method == "POST" and (_is_foreign(headers) or not (logs_in or WRITE_HEADER in headers)):
            return PlainTextResponse("writes come from the page itself", 403)
        if self._token is None or logs_in:
            return None
        if path == "/" and "key" in request.query_params:
            return self._opened(request.query_params["key"])
        if self._is_known(request) or path == "/static/page.css":
            return None
        if path == "/":
            return HTMLResponse(_LOGIN.format(message="This page asks for its key."), 401)
        return PlainTextResponse("this page asks for its key; open it anew", 401)

    def _opened(self, key: str) -> Response:
        assert self._token is not None
        if not hmac.compare_digest(_token(key), self._token):
            return HTMLResponse(_LOGIN.format(message="That is not the key."), 401)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, self._token, httponly=True, samesite="lax", path="/")
        return answer

    def _is_known(self, request: Request) -> bool:
        assert self._token is not None
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        given = [_token(key.strip())] if scheme.lower() == "bearer" else []
        try:
            cookie = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        given += [cookie.value] if cookie else []
        return any(hmac.compare_digest(one.encode(), self._token.encode()) for one in given)


def _token(key: str) -> str:
    """The browser's token in place of the key."""
    return hashlib.sha256(f"everymask browse {key}".encode("utf-8", "surrogatepass")).hexdigest()


def _host_name(headers: Headers) -> str:
    host = headers.get("host", "").lower()
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _is_foreign(headers: Headers) -> bool:
    """Whether a write comes from another origin than the page's. Programs send no origin."""
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


async def _body(receive: Receive, most: int) -> bytes | None:
    """The body of a write; None where it is too large, whatever its length said."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body as a fresh message, then the client's further messages."""
    given = False

    async def again() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again
