"""An issuer's HTTP(S) server on loopback, good and bad: it counts requests, hangs, lies, redirects and goes away."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from tests.support.ports import free_ports


class JwksServer:
    """Serves `body` with `status` to whatever is asked; set the attributes to change what it does next."""

    def __init__(self, body: bytes = b'{"keys":[]}', tls: ssl.SSLContext | None = None) -> None:
        self.body = body
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answering = asyncio.Event()
        """Cleared: it takes requests and says nothing."""
        self.answering.set()
        self.drips = False
        self.requests = 0
        self.heads: list[bytes] = []
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._port = 0
        self._answers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it is, also while it is stopped; with a query that nobody should log."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._port}/jwks.json?secret=s3cr3t"

    async def start(self) -> None:
        """Listen, each time on the same port."""
        self._port = self._port or free_ports(1)[0]
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, ssl=self._tls)

    async def stop(self) -> None:
        """Refuse connections and drop those that are there."""
        if self._server is not None:
            self._server.close()
        for answer in self._answers:
            answer.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)

    def redirect(self, target: str) -> None:
        """Answer with a redirect from now on."""
        self.status, self.headers = 302, {"Location": target}

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = asyncio.get_running_loop().create_task(self._answer(reader, writer))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                self.requests += 1
                await self.answering.wait()
                await self._write(writer)
        finally:
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        fields = {"Content-Length": str(len(self.body)), "Connection": "close", **self.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {self.status} X\r\n{lines}\r\n".encode())
        for chunk in self.body if self.drips else [self.body]:
            writer.write(bytes([chunk]) if isinstance(chunk, int) else chunk)
            await writer.drain()
            if self.drips:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(body: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[JwksServer]:
    """A started server, stopped at the end."""
    server = JwksServer(body, tls)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
