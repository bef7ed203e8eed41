"""Ports that must be known before anybody listens on them, and stay the same over restarts."""

from __future__ import annotations

import os
import random
import socket
from collections import deque
from pathlib import Path

LOWEST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: deque[int] = deque(maxlen=2_000)
"""The newest that were given away: a fifth of what each of two processes may give."""


def free_ports(count: int) -> list[int]:
    """Return ports on which nobody listens now, all different and in no order, which no other test gets soon.

    They are below those that the kernel gives to outgoing connections and to `bind` with port 0: such a one may be gone
    again before it is listened on, or while who listens on it is restarted. Each process of pytest-xdist has its own.
    """
    below = int(_RANGE.read_text().split()[0])
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    dice = random.SystemRandom()
    found: list[int] = []
    while len(found) < count:
        port = dice.randrange(LOWEST + process, below, processes)
        if port not in _given and _is_free(port):
            _given.append(port)
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
