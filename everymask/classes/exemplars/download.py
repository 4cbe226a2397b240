"""A polite and careful HTTP client: limits on rate, size, type, redirects and addresses; retries with back-off."""

from __future__ import annotations

import ipaddress
import random
import socket
import threading
import time
from collections import defaultdict
from email.utils import parsedate_to_datetime
from types import TracebackType

import httpx

import everymask
from everymask.classes.exemplars.download_limits import DownloadConfig, DownloadError, IpNetwork

RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class HttpClient:
    """Fetches web addresses. Safe to use from several threads.

    Proxies named in the environment are not used: behind one, the address that is reached cannot be checked.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self._config = config
        self._limiter = _HostLimiter(config.requests_per_second)
        self._client = httpx.Client(
            transport=_CheckedTransport(config.networks),
            follow_redirects=True,
            max_redirects=config.max_redirects,
            timeout=config.timeout_s,
            trust_env=False,
            headers={"User-Agent": f"everymask/{everymask.__version__} (collects openly licensed exemplars)"},
        )

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def get(
        self,
        url: str,
        accept: tuple[str, ...],
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """The body of one address.

        Args:
            url: http or https.
            accept: beginnings of acceptable content types.
            params: query parameters.
            headers: further request headers.

        Raises:
            DownloadError: refused, too large, of another type, or not to be had after all retries.
        """
        for attempt in range(self._config.retries + 1):
            try:
                status, retry_after, body = self._attempt(url, accept, params, headers)
            except httpx.TooManyRedirects as error:
                raise DownloadError(f"more than {self._config.max_redirects} redirects") from error
            except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError) as error:
                raise DownloadError(f"not a web address: {error}") from error
            except httpx.TransportError as error:
                status, retry_after, body = None, 0.0, b""
                reason = f"{type(error).__name__}: {error}"
            else:
                reason = f"status {status}"
            if status is not None and status < 400:
                return body
            if status is not None and status not in RETRIED_STATUS:
                raise DownloadError(reason)
            if attempt < self._config.retries:
                pause = self._config.backoff_s * 2**attempt * random.uniform(0.75, 1.25)
                time.sleep(min(max(pause, retry_after), 60.0))
        raise DownloadError(f"{reason}, after {self._config.retries + 1} attempts")

    def _attempt(
        self, url: str, accept: tuple[str, ...], params: dict[str, str] | None, headers: dict[str, str] | None
    ) -> tuple[int, float, bytes]:
        """Status, seconds the server asks to wait, and the body if the status is a success."""
        self._limiter.wait(httpx.URL(url).host)
        deadline = time.monotonic() + self._config.max_total_s
        with self._client.stream("GET", url, params=params, headers=headers) as response:
            if response.status_code >= 400:
                return response.status_code, _retry_after(response.headers.get("retry-after", "")), b""
            kind = response.headers.get("content-type", "").lower()
            if not kind.startswith(accept):
                raise DownloadError(f"content type {kind or 'missing'} is not {' or '.join(accept)}")
            if int(response.headers.get("content-length", "0") or 0) > self._config.max_bytes:
                raise DownloadError(f"more than {self._config.max_bytes:,} bytes")
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > self._config.max_bytes:
                    raise DownloadError(f"more than {self._config.max_bytes:,} bytes")
                if time.monotonic() > deadline:
                    raise DownloadError(f"not finished after {self._config.max_total_s:g} s")
            return response.status_code, 0.0, bytes(body)


class _CheckedTransport(httpx.HTTPTransport):
    """Resolves a host once, refuses addresses that are not public, and connects to the very address it checked.

    Redirects pass through here too, so neither they nor a name that resolves differently the second time reach inside.
    """

    def __init__(self, allowed: tuple[IpNetwork, ...]) -> None:
        super().__init__()
        self._allowed = allowed

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        address = self._public_address(host)
        # The Host header was set from the name already; TLS keeps checking the certificate against the name.
        request.extensions = {**request.extensions, "sni_hostname": host}
        original = request.url
        request.url = original.copy_with(host=address)
        try:
            return super().handle_request(request)
        finally:
            request.url = original

    def _public_address(self, host: str) -> str:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpx.ConnectError(f"{host} does not resolve: {error}") from error
        addresses = [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]
        for address in addresses:
            if not _is_public(address) and not any(address in network for network in self._allowed):
                raise DownloadError(f"{host} is a private address ({address})")
        return str(addresses[0])


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    checked = mapped or address
    return checked.is_global and not checked.is_multicast


class _HostLimiter:
    """Spaces requests to one host evenly."""

    def __init__(self, requests_per_second: float) -> None:
        self._interval = 1.0 / requests_per_second
        self._next: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    def wait(self, host: str) -> None:
        """Return when a request to `host` may be sent."""
        with self._lock:
            start = max(self._next[host], time.monotonic())
            self._next[host] = start + self._interval
        time.sleep(max(0.0, start - time.monotonic()))


def _retry_after(value: str) -> float:
    """Seconds from a Retry-After header, a number or a date; 0 for neither."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0
