"""HTTP connections to public addresses only, within the request's time limit."""

from __future__ import annotations

import contextvars
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from everymask.files.download_limits import DownloadError, IpNetwork

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNICAST = ipaddress.ip_network("2000::/3")
_TUNNELS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "64:ff9b::/96",  # NAT64: leads to any IPv4 address, private ones too
        "64:ff9b:1::/48",  # NAT64 of one's own network
        "2002::/16",  # 6to4, likewise
        "2001::/32",  # Teredo, likewise
        "192.88.99.0/24",  # relays of 6to4
    )
)
_deadline: contextvars.ContextVar[float] = contextvars.ContextVar("deadline")


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limit all sending, receiving and waiting of this thread in the block to `seconds`, else DownloadError."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    except (httpx.TimeoutException, DownloadError) as error:
        if remaining_s() <= 0:
            raise DownloadError(f"not finished after {seconds:g} s") from error
        raise
    finally:
        _deadline.reset(token)


def remaining_s() -> float:
    """Seconds left in the block of `deadline`; 0 or less once they are over."""
    return _deadline.get() - time.monotonic()


def is_public(address: IpAddress) -> bool:
    """Whether an address is on the public internet and not a tunnel that could lead elsewhere."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address not in _UNICAST:
            return False
    tunnelled = any(address in network for network in _TUNNELS)
    return address.is_global and not address.is_multicast and not tunnelled


class CheckedTransport(httpx.HTTPTransport):
    """Resolves a host once, refuses addresses that are not public, and connects to the very address it checked.

    Redirects pass through here too, so neither they nor a second resolution of the name can reach inside. `allowed` are
    non-public networks that may be reached.
    """

    def __init__(self, allowed: tuple[IpNetwork, ...]) -> None:
        super().__init__()
        # httpx has no argument for it; its pool is replaced by one with the same certificate checks.
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False), network_backend=_CheckedBackend(allowed)
        )


class _CheckedBackend(httpcore.NetworkBackend):
    def __init__(self, allowed: tuple[IpNetwork, ...]) -> None:
        self._allowed = allowed
        self._plain = httpcore.SyncBackend()
        self._resolver = ThreadPoolExecutor(thread_name_prefix="resolver")

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._public_addresses(host)
        for address in addresses[:-1]:
            try:
                return self._connect(address, port, timeout, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue  # a host without IPv6, for instance
        return self._connect(addresses[-1], port, timeout, socket_options)

    def _connect(
        self, address: str, port: int, timeout: float | None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None
    ) -> httpcore.NetworkStream:
        limit = _limited(timeout, httpcore.ConnectTimeout)
        return _TimedStream(self._plain.connect_tcp(address, port, limit, None, socket_options))

    def _public_addresses(self, host: str) -> list[str]:
        # The resolver has no timeout of its own: it is waited for no longer than the request may take.
        asked = self._resolver.submit(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        try:
            found = asked.result(timeout=max(remaining_s(), 0))
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host} did not resolve in time") from error
        except (OSError, UnicodeError) as error:
            raise DownloadError(f"{host[:80]} does not resolve: {error}") from error
        addresses = [ipaddress.ip_address(str(item[4][0]).partition("%")[0]) for item in found]
        for address in addresses:
            if not is_public(address) and not any(address in network for network in self._allowed):
                raise DownloadError(f"{host} is a private address ({address})")
        return [str(address) for address in dict.fromkeys(addresses)]


class _TimedStream(httpcore.NetworkStream):
    """A stream whose operations all end at the request's deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _limited(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _limited(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit = _limited(timeout, httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, limit))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _limited(timeout: float | None, over: type[httpcore.TimeoutException]) -> float:
    """The shorter of `timeout` and the request's remaining seconds; raises `over` if none remain."""
    left = remaining_s()
    if left <= 0:
        raise over("the time for the whole request is over")
    return left if timeout is None else min(timeout, left)
