"""What a download may cost, and what a failed one is called. Apart from the client, which needs an optional package."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class DownloadError(Exception):
    """One address could not be fetched, or was refused; the message says why."""


@dataclass(frozen=True)
class DownloadConfig:
    """Limits of the HTTP client."""

    requests_per_second: float = 1.0
    """Most requests to one host; what the Openverse API grants anonymous users."""
    timeout_s: float = 20.0
    """To connect, and between two pieces of an answer."""
    max_total_s: float = 120.0
    """For one address: its redirects, retries and pauses included."""
    retries: int = 4
    """Further attempts after 408, 425, 429, 5xx or a broken connection."""
    backoff_s: float = 1.0
    """Pause before the first retry; doubles each time, with jitter. A longer Retry-After is obeyed up to a minute."""
    max_redirects: int = 5
    """Hops to other addresses."""
    max_bytes: int = 20 * 2**20
    """Bytes of one answer."""
    allowed_private_networks: tuple[str, ...] = field(default=())
    """Private networks that may be reached all the same, e.g. 10.1.0.0/16 for a mirror of one's own."""

    @property
    def networks(self) -> tuple[IpNetwork, ...]:
        """The allowed private networks, parsed."""
        return tuple(ipaddress.ip_network(text) for text in self.allowed_private_networks)
