"""A web application behind a gateway: answers every request with 200, and keeps what came."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import msgspec

from tidewire.platform.tasks import ended


class Received(msgspec.Struct, frozen=True):
    """A request as it came; header names in lower case."""

    path: str
    headers: Mapping[str, str]


class WebApp:
    """Use `running_app`."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.port = 0
        self.connections: list[asyncio.Task[None]] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        self.connections.append(asyncio.ensure_future(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = (line.partition(":") for line in lines if line)
                headers = {name.lower(): value.strip() for name, _, value in fields}
                self.requests.append(Received(first.split(" ")[1], headers))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@contextlib.asynccontextmanager
async def running_app() -> AsyncIterator[WebApp]:
    """Run one for a test."""
    app = WebApp()
    server = await asyncio.start_server(app.accept, "127.0.0.1", 0)
    app.port = server.sockets[0].getsockname()[1]
    try:
        yield app
    finally:
        server.close()
        await ended(app.connections)
