"""Publications whose header block is none: nats-server takes any bytes there, and JetStream writes its own behind them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.history import FEW, HistoryClient, HistoryProcess, client_of, publish, publisher
from tests.support.nats_server import NatsServer
from tests.support.wait import PATIENCE
from tidewire.kernel.subjects import in_subject

FORGED = b"Nats-Stream: TW_other_0\r\nNats-Subject: tw.in.0.chat.b\r\nNats-Sequence: 1\r\nNats-Time-Stamp: 1970-01-01T00:00:00Z"
BLOCKS = [
    b"NATS/1.0\r\nX: yz",
    b"NATS/1.0\r\nX: yz\r\n",
    b"NATS/1.0\r\n",
    b"NATS/1.0",
    b"NATS/1.0 404 xx",
    b"NATS/1.0 204 xx\r\nNats-UpTo-Sequence: 9",
    b"NATS/1.0 204\r\n\r\n",
    b"xx",
    b"\r\n\r\n",
    b"NATS/1.0\r\n" + FORGED,
    b"NATS/1.0\r\n" + FORGED + b"\r\n\r\n",
    b"NATS/1.0\r\n\r\nNats-Sequence: 1\r\n\r\n",
]


async def stored(server: NatsServer, channel: str, header: bytes) -> int:
    """Publish with this header block as it is, which no client library would do; return the offset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB answer 1\r\n'
        b'HPUB %b answer %d %d\r\n%b"odd"\r\n'
        % (in_subject(channel, FEW), len(header), len(header) + 5, header)
    )
    try:
        async with asyncio.timeout(PATIENCE):
            while not (line := await reader.readline()).startswith(b"{"):
                assert not line.startswith(b"-ERR"), line
        return int(json.loads(line)["seq"])
    finally:
        writer.close()


@pytest.mark.parametrize("header", BLOCKS)
async def test_it_spoils_nothing(
    server: NatsServer, config: dict[str, Any], history: HistoryProcess, tmp_path: Path, header: bytes
) -> None:
    """It is read like any other, by who heard it live and by who finds it in the stream; so are its neighbours."""
    async with publisher(server) as nats, client_of(history) as warm:
        first = await publish(nats, "chat:a", b"x")
        odd = await stored(server, "chat:a", header)
        last = await publish(nats, "chat:a", b"y")
        other = await publish(nats, "long:c", b"z")
        assert await read(warm, last) == [first, odd, last]
        with HistoryProcess(tmp_path, config, "cold") as cold:
            async with client_of(cold) as client:
                found = await client.position("chat:a", "long:c", "chat:z", "long:a")
                assert [each[0] for each in found[:2] if not isinstance(each, str)] == [last, other], found
                assert await read(client, last) == [first, odd, last]
        await warm.read("long:c", at_least=other)


async def read(client: HistoryClient, at_least: int) -> list[int]:
    """Recover all of it."""
    reply = await client.read("chat:a", at_least=at_least)
    return [each.offset for each in reply.publications]
