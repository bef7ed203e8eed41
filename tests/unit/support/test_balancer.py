"""The balancer must be beyond doubt, or a drain test would show its faults as the edge's."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from tests.support.balancer import Balancer, running_balancer
from tests.support.wait import eventually


class FakeEdge:
    """A port that echoes with its own name in front, and a `/ready`."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.ready = True
        self.port = 0
        self.internal_port = 0

    @property
    def internal_url(self) -> str:
        """See Backend."""
        return f"http://127.0.0.1:{self.internal_port}"

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the peer ends its half, then end ours."""
        writer.write(self.name)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        await _close(writer)

    async def probe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        await reader.readuntil(b"\r\n\r\n")
        status = b"200 OK" if self.ready else b"503 Service Unavailable"
        writer.write(b"HTTP/1.1 " + status + b"\r\n\r\n")
        await _close(writer)


@contextlib.asynccontextmanager
async def running(*names: bytes) -> AsyncIterator[tuple[Balancer, list[FakeEdge]]]:
    """Run fake edges and a balancer before them."""
    async with contextlib.AsyncExitStack() as stack:
        edges = [FakeEdge(name) for name in names]
        for edge in edges:
            for serve, attribute in ((edge.echo, "port"), (edge.probe, "internal_port")):
                server = await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
                setattr(edge, attribute, server.sockets[0].getsockname()[1])
        yield await stack.enter_async_context(running_balancer(edges)), edges


async def greeted(balancer: Balancer) -> bytes:
    """Connect, return which edge answered, and go."""
    reader, writer = await connect(balancer)
    name = await reader.read(1)
    await _close(writer)
    return name


async def connect(balancer: Balancer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect through the balancer."""
    return await asyncio.open_connection("127.0.0.1", int(balancer.ws_url.split(":")[2].split("/")[0]))


async def test_new_connections_go_to_ready_edges_only() -> None:
    """In turn while both are ready; who is connected stays where it is."""
    async with running(b"a", b"b") as (balancer, (first, second)):
        assert {await greeted(balancer) for _ in range(4)} == {b"a", b"b"}
        stayed = [await connect(balancer) for _ in range(2)]
        names = [await reader.read(1) for reader, _ in stayed]
        assert sorted(names) == [b"a", b"b"]
        first.ready = False
        await eventually(lambda: balancer.ready == {second.port})
        assert {await greeted(balancer) for _ in range(4)} == {b"b"}
        for reader, writer in stayed:
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            await _close(writer)


async def test_bytes_pass_unchanged_and_a_half_closed_stream_is_read_to_its_end() -> None:
    """A mebibyte that is written at once, then the end of the stream: all of it comes back."""
    async with running(b"a") as (balancer, _):
        reader, writer = await connect(balancer)
        sent = os.urandom(1 << 20)
        writer.write(sent)
        writer.write_eof()
        assert await reader.read(-1) == b"a" + sent
        await _close(writer)


async def test_without_a_ready_edge_a_connection_is_cut_and_counted() -> None:
    """A client sees it at once, instead of waiting."""
    async with running(b"a") as (balancer, (only,)):
        only.ready = False
        await eventually(lambda: not balancer.ready)
        reader, writer = await connect(balancer)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read(1) == b""
        assert balancer.refused == 1
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
