"""permessage-deflate between a real edge and real clients: websockets, and the official SDKs for Node and Python."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode

from tests.support.edges import EdgeProcess, Mesh, running_mesh, token
from tests.support.node import running_node
from tests.support.protocol import protocol
from tests.support.sdk import SdkClient, connected, event, subscribed
from tests.support.sdk_python import PythonClient
from tests.support.wait import PATIENCE, eventually

MESSAGE = 65_536
TEXT = " ".join(random.Random(1).choices(["tide", "wire", "edge", "mesh", "€", "wave"], k=1000))


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One edge that compresses."""
    config = {"websocket": {"compression": True, "message_size_limit": MESSAGE}}
    with running_mesh(tmp_path_factory.mktemp("compression"), config, edges=1) as running:
        yield running


@pytest.fixture
def edge(mesh: Mesh) -> EdgeProcess:
    """That edge."""
    return mesh.edges[0]


@contextlib.asynccontextmanager
async def client(edge: EdgeProcess, channel: str, **parameters: Any) -> AsyncIterator[ClientConnection]:
    """A connected and subscribed client whose offer has these parameters."""
    offers = [ClientPerMessageDeflateFactory(**parameters)]
    async with connect(edge.ws_url, compression=None, extensions=offers, ping_interval=None) as socket:
        await socket.send(json.dumps({"id": 1, "connect": {"token": token()}}))
        assert "connect" in json.loads(await socket.recv())
        await socket.send(json.dumps({"id": 2, "subscribe": {"channel": channel}}))
        assert json.loads(await socket.recv()) == {"id": 2, "subscribe": {}}
        yield socket


async def next_data(socket: ClientConnection) -> object:
    """The data of the next publication; replies are passed over."""
    async with asyncio.timeout(PATIENCE):
        async for frame in socket:
            for line in frame.splitlines():
                if "push" in (message := json.loads(line)):
                    return message["push"]["pub"]["data"]
    raise AssertionError("closed")


@protocol("transport.deflate")
async def test_clients_with_any_window_read_the_same_publication(edge: EdgeProcess) -> None:
    """Each offer is answered by itself; the data come out whole for all, and in a fraction of their bytes."""
    offers: list[dict[str, Any]] = [
        {},
        {"server_max_window_bits": 9},
        {"server_max_window_bits": 15, "client_max_window_bits": 9},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"client_max_window_bits": None},
    ]
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(edge, "live:all", **offer)) for offer in offers]
        for one in clients:
            assert one.response is not None
            assert "permessage-deflate" in one.response.headers["Sec-WebSocket-Extensions"]
        before = (await edge.metrics()).value("tidewire_sent_bytes_total")
        for number in range(3):
            data = {"number": number, "text": TEXT}
            await clients[number].send(
                json.dumps({"id": 3, "publish": {"channel": "live:all", "data": data}}, ensure_ascii=False)
            )
            for one in clients:
                assert await next_data(one) == data
        sent = (await edge.metrics()).value("tidewire_sent_bytes_total") - before
        assert sent < 3 * len(clients) * len(TEXT) / 2


@protocol("transport.deflate")
async def test_clients_that_do_not_offer_it_are_not_compressed_for(edge: EdgeProcess) -> None:
    """On the same channel; the metrics tell them apart."""
    opened = "tidewire_connections_opened_total"
    before = await edge.metrics()
    async with (
        connect(edge.ws_url, compression=None, ping_interval=None) as plain,
        client(edge, "live:mixed") as socket,
    ):
        await plain.send(json.dumps({"id": 1, "connect": {"token": token()}}))
        await plain.recv()
        await plain.send(json.dumps({"id": 2, "subscribe": {"channel": "live:mixed"}}))
        await plain.recv()
        await socket.send(json.dumps({"id": 3, "publish": {"channel": "live:mixed", "data": TEXT}}))
        assert [await next_data(one) for one in (plain, socket)] == [TEXT, TEXT]
        assert plain.response is not None
        assert "Sec-WebSocket-Extensions" not in plain.response.headers
        after = await edge.metrics()
        for compression in ("none", "deflate"):
            of_these = {"format": "json", "compression": compression}
            assert after.value(opened, **of_these) == before.value(opened, **of_these) + 1


@protocol("transport.deflate")
@pytest.mark.parametrize("kind", ["js-json", "js-protobuf", "python-json", "python-protobuf"])
async def test_official_sdks_compress_both_ways(edge: EdgeProcess, kind: str) -> None:
    """`ws` and websockets offer it by themselves, and compress what they send: fewer bytes than the data pass the edge."""
    language, _, wire = kind.partition("-")
    channel = f"live:{kind}"
    async with contextlib.AsyncExitStack() as stack:
        sdk: SdkClient
        if language == "js":
            node = await stack.enter_async_context(running_node())
            sdk = await node.create(edge.ws_url, wire=wire, token=token(kind))
        else:
            sdk = PythonClient(edge.ws_url, wire=wire, token=token(kind))
        stack.push_async_callback(sdk.close)
        await connected(sdk)
        await subscribed(sdk, channel)
        before = await edge.metrics()
        await sdk.publish(channel, {"text": TEXT})
        assert (await event(sdk, "publication")).data == {"text": TEXT}
        after = await edge.metrics()
        for name in ("tidewire_received_bytes_total", "tidewire_sent_bytes_total"):
            assert 0 < after.value(name) - before.value(name) < len(TEXT) / 2


@protocol("transport.deflate", "message.size")
@pytest.mark.parametrize("pieces", [1, 50])
async def test_bomb_closes_its_own_connection_only(edge: EdgeProcess, pieces: int) -> None:
    """64 MiB of zeros in 64 KiB, whole and in fragments; a neighbour does not notice."""
    bomb = zlib.compress(bytes(63 << 20), 9, wbits=-15)
    assert len(bomb) < MESSAGE
    size = len(bomb) // pieces + 1
    parts = [bomb[at : at + size] for at in range(0, len(bomb), size)]
    async with client(edge, "live:calm") as calm, client(edge, "live:bombed") as socket:
        for index, part in enumerate(parts):
            first = (0x41 if index == 0 else 0) | (0x80 if index == len(parts) - 1 else 0)
            socket.transport.write(
                bytes((first,)) + Frame(Opcode.BINARY, part).serialize(mask=True)[1:],
            )
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(PATIENCE):
                await socket.recv()
        assert socket.close_code == 1009
        await calm.send(json.dumps({"id": 3, "publish": {"channel": "live:calm", "data": 1}}))
        assert await next_data(calm) == 1


@protocol("message.size")
@pytest.mark.parametrize("part", [b"", b"x"])
async def test_flood_of_fragments_leaves_the_edge_to_its_neighbours(edge: EdgeProcess, part: bytes) -> None:
    """Empty ones cost no memory, others end with 1009; publications of others go on meanwhile."""
    async with client(edge, "live:calm") as calm, client(edge, "live:flood") as socket:
        piece = b"\x00" + Frame(Opcode.CONT, part).serialize(mask=True)[1:]
        socket.transport.write(b"\x02\x80\x00\x00\x00\x00" + piece * 70_000)
        for number in range(5):
            await calm.send(json.dumps({"id": 3, "publish": {"channel": "live:calm", "data": number}}))
            assert await next_data(calm) == number
        if part:
            with pytest.raises(ConnectionClosed):
                async with asyncio.timeout(PATIENCE):
                    await socket.recv()
            assert socket.close_code == 1009
        else:
            socket.transport.write(b"\x80\x82\x00\x00\x00\x00{}")
            await asyncio.wait_for(await socket.ping(), PATIENCE)


@protocol("transport.deflate")
async def test_compression_follows_a_reload(edge: EdgeProcess) -> None:
    """Connections keep what they agreed on, new ones are told the new."""
    async with client(edge, "live:kept") as kept:
        try:
            edge.configure({"websocket": {"compression": False}})
            edge.hang_up()
            await eventually(lambda: edge.logged("config.reloaded"))
            async with connect(edge.ws_url) as plain:
                assert plain.response is not None
                assert "Sec-WebSocket-Extensions" not in plain.response.headers
            await kept.send(json.dumps({"id": 3, "publish": {"channel": "live:kept", "data": TEXT}}))
            assert await next_data(kept) == TEXT
        finally:
            edge.configure({"websocket": {"compression": True}})
            edge.hang_up()
            await eventually(lambda: len(edge.logged("config.reloaded")) == 2)
