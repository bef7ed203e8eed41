"""What the kernel knows of the other end of a TCP connection before anything was read."""

from __future__ import annotations

import select
from asyncio import BaseTransport

_ENDED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def has_left(tcp: BaseTransport) -> bool:
    """Return whether the peer has ended its stream or reset the connection (poll(2): POLLRDHUP, only Linux has it)."""
    sock = tcp.get_extra_info("socket")
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), _ENDED)
    return bool(poll.poll(0))
