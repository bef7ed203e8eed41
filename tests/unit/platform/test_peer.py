from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.wait import eventually
from tidewire.platform.peer import has_left, peer_of


@pytest.mark.parametrize("goes", [socket.socket.close, lambda peer: peer.shutdown(socket.SHUT_WR)])
async def test_a_peer_has_left_once_it_ended_its_stream_whatever_waits_to_be_read(goes: object) -> None:
    """By closing, or in its own direction only."""
    ours, peer = socket.socketpair()
    with ours, peer:
        tcp, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        tcp.pause_reading()
        peer.send(b"something")
        assert not has_left(tcp)
        assert callable(goes)
        goes(peer)
        await eventually(lambda: has_left(tcp))
        tcp.abort()


def test_what_has_no_socket_never_leaves() -> None:
    """A transport of a test."""
    assert not has_left(asyncio.Transport())


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        (("192.0.2.1", 4711), ("192.0.2.1", "192.0.2.1:4711")),
        (("2001:db8::1", 4711, 0, 0), ("2001:db8::1", "[2001:db8::1]:4711")),
        ("", ("", "")),
        (None, ("", "")),
    ],
)
def test_name_of_a_peer(name: object, peer: tuple[str, str]) -> None:
    """As the loops give it, with IPv6's flow and scope; a Unix socket has none."""
    assert peer_of(asyncio.Transport({"peername": name})) == peer
