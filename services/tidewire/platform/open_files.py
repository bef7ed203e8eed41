"""How many files (sockets are such) the process may open, and how many connections fit into that."""

from __future__ import annotations

import contextlib
import math
import resource

RESERVE = 128
"""Files that are not clients: NATS, listeners, logs, probes and scrapes on the internal port."""
SPARE = 64
HEADROOM = 1.1
"""Sockets for each connection: handshakes under way, and sockets that are being closed, come on top (see Gate.crowded)."""


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(
            OSError, ValueError
        ):  # an unlimited hard limit may be more than the kernel allows
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connections_within(files: int, wanted: int) -> int:
    """Return how many of the `wanted` connections (at least 1) fit into a number of open files."""
    return max(1, min(wanted, int((files - RESERVE - SPARE) / HEADROOM)))


def files_for(connections: int) -> int:
    """Return the number of open files that so many connections need: the least in which they all fit."""
    return math.ceil(connections * HEADROOM) + RESERVE + SPARE
