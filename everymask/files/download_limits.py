"""Limits and errors of downloads, apart from the client, which needs an optional package."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class DownloadError(Exception):
    """An address was refused or could not be fetched; the message says why."""


@dataclass(frozen=True)
class DownloadConfig:
    """Limits of the HTTP client."""

    requests_per_second: float = 1.0
    """Most requests per second to one host (the Openverse API's limit for anonymous users)."""
    timeout_s: float = 20.0
    """Seconds to connect, and between two pieces of an answer."""
    max_total_s: float = 120.0
    """Seconds for one address, including redirects, retries and pauses."""
    retries: int = 4
    """Further attempts after 408, 425, 429, 5xx or a broken connection."""
    backoff_s: float = 1.0
    """Seconds before the first retry; doubles each time, with jitter. A longer Retry-After is obeyed up to a minute."""
    max_redirects: int = 5
    """Most redirects."""
    max_bytes: int = 20 * 2**20
    """Most bytes of one answer."""
    allowed_private_networks: tuple[str, ...] = field(default=())
    """Private networks that may be reached, e.g. 10.1.0.0/16 for a mirror of your own."""

    @property
    def networks(self) -> tuple[IpNetwork, ...]:
        return tuple(ipaddress.ip_network(text) for text in self.allowed_private_networks)
