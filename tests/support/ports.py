"""Ports that must be known before anybody listens on them, and stay the same over restarts."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOWEST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens now, all different and in no order.

    They are below those that the kernel gives to outgoing connections and to `bind` with port 0: such a one may be gone
    again before it is listened on.
    """
    below = int(_RANGE.read_text().split()[0])
    dice = random.SystemRandom()
    found: set[int] = set()
    while len(found) < count:
        port = dice.randrange(LOWEST, below)
        if _is_free(port):
            found.add(port)
    return list(found)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
