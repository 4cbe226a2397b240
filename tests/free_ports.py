"""Ports for the servers that tests start."""

from __future__ import annotations

import random
import socket

# Below the ports that systems give to whoever asks for any, and above those of Ray's workers: the server binds its port
# seconds after it was chosen, and until then nobody else is given it.
_RANGE = range(20_000, 32_768)
# Processes of tests that began from the same seed would choose the same ones.
_CHOICE = random.SystemRandom()


def free_port() -> int:
    """A port nobody listens on now."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different."""
    found: set[int] = set()
    while len(found) < count:
        port = _CHOICE.choice(_RANGE)
        with socket.socket() as probe:
            # A port on which a connection has just ended is free for a server, too.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.add(port)
    return sorted(found)
