"""A client that stops reading costs a bounded amount of memory and nobody else anything."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.edges import Mesh, running_mesh, token
from tests.support.protocol import protocol
from tests.support.raw_client import Clients, publication
from tests.support.wait import PATIENCE, eventually

LIMIT = 1 << 20
SOCKET_BUFFERS = 16 << 20
"""More than the kernel keeps for one connection over loopback, in both directions together."""
SIZE = 60_000
MOST = 1000


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """Two edges that do not wait long for a client which cannot hear their goodbye."""
    with running_mesh(tmp_path, {"websocket": {"close_timeout": "500ms"}}) as running:
        yield running


@protocol("close.slow", "disconnect.3008")
async def test_a_client_that_does_not_read_is_closed_with_3008_and_others_get_everything(
    mesh: Mesh, clients: Clients
) -> None:
    """Once more than client.queue_max_size waits for it; until then nothing is dropped for anyone."""
    edge = mesh.edges[0]
    numbers: list[int] = []

    def on_push(line: bytes) -> None:
        found = publication(line)
        assert found is not None
        numbers.append(found[1]["data"]["number"])

    slow = await clients.join(edge.ws_url, token("slow"), "live:flood")
    await clients.join(edge.ws_url, token("reader"), "live:flood", on_push=on_push)
    publisher = await clients.join(mesh.edges[1].ws_url, token("publisher"))
    assert slow._tcp is not None
    slow._tcp.pause_reading()
    filler = "x" * SIZE
    sent = 0

    async def closed() -> bool:
        return (await edge.metrics()).value("tidewire_slow_consumers_total") == 1

    while not await closed():
        assert sent < MOST, "the slow client is not noticed"
        data = {"number": sent, "filler": filler}
        assert "publish" in await publisher.command(publish={"channel": "live:flood", "data": data})
        sent += 1
        pending = (await edge.metrics()).value("tidewire_pending_bytes")
        assert pending <= LIMIT + 4 * SIZE
    assert sent * SIZE < LIMIT + SOCKET_BUFFERS
    await eventually(lambda: len(numbers) == sent)
    assert numbers == list(range(sent))
    (line,) = await eventually(lambda: edge.logged("connection.closed"))
    assert (line["code"], line["user"]) == (3008, "slow")
    assert (await edge.metrics()).value("tidewire_connections") == 1
    slow._tcp.resume_reading()
    async with asyncio.timeout(PATIENCE):
        await slow.gone.wait()
