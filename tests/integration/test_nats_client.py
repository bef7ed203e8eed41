"""What the tests' plain NATS clients promise; every test with a backend stands on it."""

from __future__ import annotations

import socket

from tests.support.nats_client import connected, flushed
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE

ROUNDS = 300


async def test_after_a_flush_another_connection_finds_the_subscription(nats_server: NatsServer) -> None:
    """Every time; with one flush of nats-py alone some publications find nobody."""
    async with connected(nats_server.url) as client:
        with socket.create_connection(("127.0.0.1", nats_server.port)) as other:
            other.sendall(b'CONNECT {"verbose": false}\r\n')
            for number in range(ROUNDS):
                subscription = await client.subscribe(f"s.{number}")
                await flushed(client)
                other.sendall(b"PUB s.%d 1\r\nx\r\n" % number)
                assert (await subscription.next_msg(PATIENCE)).data == b"x"
