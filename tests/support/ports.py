"""Ports that must be known before anybody listens on them, and stay the same over restarts."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

LOWEST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens now, all different and in no order.

    They are below those that the kernel gives to outgoing connections and to `bind` with port 0: such a one may be gone
    again before it is listened on. For the same reason tests that run at the same time have a share of them each.
    """
    dice = random.SystemRandom()
    found: set[int] = set()
    while len(found) < count:
        port = dice.choice(_share())
        if _is_free(port):
            found.add(port)
    return list(found)


def _share() -> range:
    """Return the ports of this process, which is one of several that run tests (pytest-xdist), or the only one."""
    below = int(_RANGE.read_text().split()[0])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return range(LOWEST + own, below, workers)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
