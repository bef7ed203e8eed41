"""What listeners ask for, and before a start whether one would get its address."""

from __future__ import annotations

import errno
import socket

BACKLOG = 4096
"""Connections that may wait to be accepted, where the kernel allows so many (net.core.somaxconn)."""

_WHY = {
    errno.EADDRINUSE: "is taken",
    errno.EACCES: "needs more rights than this user has",
    errno.EADDRNOTAVAIL: "is at an address that this machine does not have",
}


def why_not(host: str, port: int) -> str | None:
    """Return why nothing can listen at `host` (an IP address) and `port`, in words that follow "port N"; None if free.

    Another process may still take it before the listener does.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return _WHY.get(error.errno or 0, f"cannot be used: {error.strerror}")
    return None
