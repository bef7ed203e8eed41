"""The proxy must be beyond doubt, or what a test says of a cut network would be what its proxy did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.support.tcp_proxy import TcpProxy, running_proxy
from tests.support.wait import eventually

QUIET = 0.2


class Echo:
    """A server that says what it is told, and what it was told."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost: list[str] = []
        self._clients: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the peer ends, or something goes wrong."""
        try:
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
            self.lost.append("end")
        except ConnectionResetError:
            self.lost.append("reset")
        finally:
            writer.close()

    async def said(self, proxy: TcpProxy, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect a client and say something."""
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        self._clients.append(writer)
        writer.write(text)
        return reader, writer

    async def end(self) -> None:
        """End all clients."""
        for client in self._clients:
            client.close()
            with contextlib.suppress(OSError):
                await client.wait_closed()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[tuple[TcpProxy, Echo]]:
    """Run the server and the proxy before it."""
    echo = Echo()
    async with (
        await asyncio.start_server(echo.serve, "127.0.0.1", 0) as server,
        running_proxy(server.sockets[0].getsockname()[1]) as proxy,
    ):
        yield proxy, echo
        await proxy.mend()
        await echo.end()


async def test_bytes_pass_both_ways_and_so_does_an_end() -> None:
    """As without it."""
    async with running() as (proxy, echo):
        reader, writer = await echo.said(proxy, b"a")
        assert await reader.readexactly(1) == b"a"
        assert proxy.joined == 1
        writer.close()
        await eventually(lambda: echo.lost == ["end"])
        assert proxy.joined == 0


async def test_a_stall_swallows_bytes_ends_and_newcomers() -> None:
    """Nobody is told of anything; later everything arrives late."""
    async with running() as (proxy, echo):
        reader, writer = await echo.said(proxy, b"a")
        assert await reader.readexactly(1) == b"a"
        proxy.stall()
        writer.write(b"b")
        _, gone = await echo.said(proxy, b"c")
        gone.close()
        newcomer, _ = await echo.said(proxy, b"d")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), QUIET)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(newcomer.read(1), QUIET)
        assert (echo.heard, echo.lost) == (b"a", [])
        await proxy.mend()
        assert await reader.readexactly(1) == b"b"
        assert await newcomer.readexactly(1) == b"d"
        await eventually(lambda: sorted(echo.heard) == sorted(b"abcd"))


async def test_a_reset_is_an_error_for_both_and_refuses_newcomers() -> None:
    """Until it is mended, at the same port."""
    async with running() as (proxy, echo):
        reader, _ = await echo.said(proxy, b"a")
        assert await reader.readexactly(1) == b"a"
        await proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        await eventually(lambda: echo.lost == ["reset"])
        with pytest.raises(ConnectionRefusedError):
            await echo.said(proxy, b"b")
        await proxy.mend()
        reader, _ = await echo.said(proxy, b"c")
        assert await reader.readexactly(1) == b"c"


async def test_nobody_behind_it() -> None:
    """A reset, which is as near to a refusal as a proxy comes."""
    echo = Echo()
    async with running_proxy(9) as proxy:
        reader, _ = await echo.said(proxy, b"a")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        await echo.end()
