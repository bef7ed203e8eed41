"""What the kernel knows of the other end of a TCP connection, whatever was read."""

from __future__ import annotations

import select
from asyncio import BaseTransport

_ENDED = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def peer_of(tcp: BaseTransport) -> tuple[str, str]:
    """Return the peer's IP address, and `address:port`; both are "" for a socket that has none, such as a Unix socket."""
    name = tcp.get_extra_info("peername")
    return (name[0], place(name[0], name[1])) if isinstance(name, tuple) else ("", "")


def place(address: str, port: int) -> str:
    """Return `address:port`, an IPv6 address in brackets (RFC 5952, section 6)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def has_left(tcp: BaseTransport) -> bool:
    """Return whether the peer has ended its stream or reset the connection (poll(2): POLLRDHUP, only Linux has it)."""
    sock = tcp.get_extra_info("socket")
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), _ENDED)
    return bool(poll.poll(0))
