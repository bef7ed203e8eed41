"""A lean client of the JSON protocol, for what the SDKs cannot do: hundreds in one process, and breaking rules.

It stands on websockets' Sans-I/O core and one asyncio.Protocol per connection, without tasks or queues. A delivery
costs it a few microseconds, where the Python SDK needs about a hundred: with the SDK a test of many subscribers would
measure the SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Self, cast
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from tests.support.wait import PATIENCE


class ReplyLine(msgspec.Struct):
    """What a client must look at in a line from the edge; a line without id is a push, or a ping when it is empty."""

    id: int = 0
    error: dict[str, Any] | None = None
    push: Raw | None = None


class PushLine(msgspec.Struct):
    """A push with a publication."""

    channel: str
    pub: dict[str, Any] | None = None


class Refused(Exception):
    """The handshake was answered with something other than 101."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status_code}: {response.body!r}")
        self.response = response


Reply = dict[str, Any]

_decode_line = msgspec.json.Decoder(ReplyLine).decode


class RawClient(asyncio.Protocol):
    """One connection. `on_push` gets each line that carries a push, as bytes, in order; pings are answered."""

    def __init__(
        self,
        url: str,
        on_push: Callable[[bytes], None] | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        """Prepare; `open` connects. `tls` is for a `wss` URL, `headers` are added to the request, `sock` is one for TCP."""
        self._url = url
        self._tls = tls
        self._headers = headers or {}
        self._sock = sock
        self._core = ClientProtocol(parse_uri(url), max_size=None)
        self._tcp: asyncio.Transport | None = None
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._numbers = itertools.count(1)
        self._on_push = on_push
        self.gone = asyncio.Event()
        """The connection has ended."""
        self.told_to_go = asyncio.Event()
        """The edge's close frame has come."""
        self.holds_close = False
        """Keep the answer to the edge's close frame back, until `release`."""
        self.answers_pings = True
        self.pings = 0

    # Its life.

    async def open(self) -> Self:
        """Connect and upgrade. Raises Refused, OSError or TimeoutError."""
        parts = urlsplit(self._url)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            if self._sock is None:
                await loop.create_connection(lambda: self, parts.hostname, parts.port, ssl=self._tls)
            else:
                await loop.sock_connect(self._sock, (parts.hostname, parts.port))
                await loop.create_connection(lambda: self, sock=self._sock)
            request = self._core.connect()
            request.headers.update(self._headers)
            self._core.send_request(request)
            self._flush()
            try:
                await self._opened
            except BaseException:
                self.abort()
                raise
        return self

    async def close(self) -> None:
        """Say goodbye and wait for the end."""
        if not self.gone.is_set():
            if self._core.close_sent is None:
                self._core.send_close(1000)
            self._flush()
            async with asyncio.timeout(PATIENCE):
                await self.gone.wait()

    def abort(self) -> None:
        """Cut the TCP connection."""
        if self._tcp is not None:
            self._tcp.abort()

    def pause(self) -> None:
        """Stop reading: what comes fills the kernel's buffers, and then the edge's."""
        assert self._tcp is not None
        self._tcp.pause_reading()

    def resume(self) -> None:
        """Read on, unless the connection has ended."""
        assert self._tcp is not None
        if not self.gone.is_set():
            self._tcp.resume_reading()

    @property
    def close_code(self) -> int:
        """The code of the edge's close frame; 0 while there is none."""
        return int(self._core.close_rcvd.code) if self._core.close_rcvd is not None else 0

    @property
    def close_reason(self) -> str:
        """The reason of the edge's close frame."""
        return self._core.close_rcvd.reason if self._core.close_rcvd is not None else ""

    def release(self) -> None:
        """Let the answer to the close frame go."""
        self.holds_close = False
        self._flush()

    # What it says.

    async def connect(self, token: str) -> Reply:
        """Send the connect command and return its result."""
        return (await self.command(connect={"token": token}))["connect"]

    async def command(self, **command: object) -> Reply:
        """Send one command and return the whole reply. ConnectionError when the connection ends before it."""
        number = self.begin(**command)
        async with asyncio.timeout(PATIENCE):
            return await self._replies[number]

    def begin(self, **command: object) -> int:
        """Send one command in a frame of its own and return its id; `reply` waits for what comes of it."""
        number = next(self._numbers)
        self._replies[number] = asyncio.get_running_loop().create_future()
        self.frame(msgspec.json.encode({"id": number, **command}))
        return number

    async def reply(self, number: int) -> Reply:
        """Wait for the reply to a command."""
        async with asyncio.timeout(PATIENCE):
            return await self._replies[number]

    def frame(self, payload: bytes) -> None:
        """Write a text frame, also after the edge has said goodbye, which no proper client would."""
        assert self._tcp is not None
        self._tcp.write(Frame(Opcode.TEXT, payload).serialize(mask=True))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._tcp = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the edge."""
        self._core.receive_data(data)
        for event in self._core.events_received():
            if isinstance(event, Response):
                self._answered(event)
            elif event.opcode is Opcode.CLOSE:
                self.told_to_go.set()
            elif event.opcode is Opcode.TEXT:
                self._received(event.data)
        if not (self.holds_close and self.told_to_go.is_set()):
            self._flush()

    def eof_received(self) -> bool:
        """See asyncio."""
        self._core.receive_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits."""
        ending = exc or ConnectionError(f"closed: {self.close_code} {self.close_reason}")
        for future in (self._opened, *self._replies.values()):
            if not future.done():
                future.set_exception(ending)
                future.exception()  # seen: whoever waits gets it, nobody has to
        self.gone.set()

    def _answered(self, response: Response) -> None:
        if self._opened.done():
            return
        if self._core.handshake_exc is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(Refused(response))

    def _received(self, data: bytes) -> None:
        for line in bytes(data).split(b"\n"):
            if line == b"{}":
                self.pings += 1
                if self.answers_pings:
                    self.frame(b"{}")
                continue
            if line.startswith(b'{"push"'):
                if self._on_push is not None:
                    self._on_push(line)
                continue
            found = _decode_line(line)
            future = self._replies.get(found.id)
            assert future is not None, f"a reply to nothing: {line[:200]!r}"
            assert not future.done(), f"a second reply: {line[:200]!r}"
            future.set_result(msgspec.json.decode(line))

    def _flush(self) -> None:
        for data in self._core.data_to_send():
            if data:
                assert self._tcp is not None
                self._tcp.write(data)


class _Push(msgspec.Struct):
    push: PushLine


_decode_push = msgspec.json.Decoder(_Push).decode


def publication(line: bytes) -> tuple[str, dict[str, Any]] | None:
    """Return channel and publication of a push line; None when it carries none."""
    push = _decode_push(line).push
    return None if push.pub is None else (push.channel, push.pub)


def opener(source: str) -> socket.socket:
    """Return the `sock` of a client that comes from this address of the machine."""
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind((source, 0))
    return sock


async def joined(
    url: str,
    token: str,
    *channels: str,
    on_push: Callable[[bytes], None] | None = None,
    tls: ssl.SSLContext | None = None,
) -> RawClient:
    """Open, connect and subscribe; every step must succeed."""
    client = await RawClient(url, on_push, tls=tls).open()
    try:
        await client.connect(token)
        for channel in channels:
            reply = await client.command(subscribe={"channel": channel})
            assert "subscribe" in reply, reply
    except BaseException:
        client.abort()
        raise
    return client


class Clients:
    """Raw clients that are cut at the end of their test, however it ends: the fixture `clients`."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    async def open(self, url: str, on_push: Callable[[bytes], None] | None = None) -> RawClient:
        """Open one."""
        client = await RawClient(url, on_push).open()
        self._stack.callback(client.abort)
        return client

    async def join(
        self, url: str, token: str, *channels: str, on_push: Callable[[bytes], None] | None = None
    ) -> RawClient:
        """Open, connect and subscribe one; every step must succeed."""
        client = await joined(url, token, *channels, on_push=on_push)
        self._stack.callback(client.abort)
        return client
