"""One hostile socket: it says any bytes whatever, at any pace, and tells how it was ended."""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import Mapping
from typing import Self, cast

import msgspec
from websockets.frames import Frame, Opcode

from tests.support.edges import token

PATH = "/connection/websocket"
CUT = "cut"
"""The ending of a socket that was told nothing."""
HEAD_END = b"\r\n\r\n"
STATUS = b"HTTP/1.1 "
UPGRADE = {
    "Host": "edge",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def head(*more: str, target: str = PATH, fields: Mapping[str, str] = UPGRADE) -> bytes:
    """Return a request for an upgrade with `more` lines at its end, however wrong they are."""
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), *more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(payload: bytes, opcode: int = Opcode.TEXT, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Return a masked frame."""
    whole = Frame(Opcode(opcode), payload, fin=fin).serialize(mask=True)
    return bytes((whole[0] | rsv1 << 6,)) + whole[1:]


def text(*commands: Mapping[str, object]) -> bytes:
    """Return a frame with commands in JSON."""
    return frame(b"\n".join(map(msgspec.json.encode, commands)))


def deflated(payload: bytes) -> bytes:
    """Return the payload of a compressed message (RFC 7692, section 7.2.1)."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


class Foe(asyncio.Protocol):
    """Keeps all that it is sent. Never answers a ping or a close unless told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tcp: asyncio.Transport | None = None
        self.narrow = False
        """Have the kernel keep as little as it can for a socket that is opened and then not read."""
        self._writable = asyncio.Event()
        self._received = bytearray()
        self._news = asyncio.Event()
        self.gone = asyncio.Event()
        """The socket is closed."""

    async def open(self) -> Self:
        """Connect; nothing is said yet."""
        sock = socket.socket()
        if self.narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", self._port))
        await loop.create_connection(lambda: self, sock=sock)
        return self

    async def upgrade(self, request: bytes = b"") -> Self:
        """Open, and become a WebSocket that has not authenticated."""
        await self.open()
        await self.send(request or head())
        await self.hears(HEAD_END)
        return self

    async def join(self, user: str = "foe", *channels: str) -> Self:
        """Upgrade, authenticate, and subscribe."""
        await self.upgrade()
        commands = [{"id": 1, "connect": {"token": token(user)}}]
        commands += [{"id": 2 + at, "subscribe": {"channel": each}} for at, each in enumerate(channels)]
        await self.send(text(*commands))
        await self.hears(b'"id":%d' % len(commands))
        return self

    async def send(self, data: bytes) -> None:
        """Write, as soon as the socket takes it. Raises ConnectionError at the end."""
        if self._tcp is None or self.gone.is_set():
            raise ConnectionError("gone")
        self._tcp.write(data)
        await self._writable.wait()

    async def hears(self, part: bytes) -> None:
        """Wait until it was sent this."""
        while part not in self._received:
            if self.gone.is_set():
                raise ConnectionError("gone")
            self._news.clear()
            await self._news.wait()

    async def leave(self) -> None:
        """Say goodbye, as one should."""
        await self.send(frame((1000).to_bytes(2, "big"), Opcode.CLOSE))

    def stop_reading(self) -> None:
        """Leave all that comes from now on to the kernel's buffers."""
        assert self._tcp is not None
        self._tcp.pause_reading()

    def vanish(self) -> None:
        """Close without a word."""
        if self._tcp is not None:
            self._tcp.abort()

    @property
    def ending(self) -> str:
        """How it was ended: statuses of HTTP, the code of a close frame, or CUT."""
        if not self._received.startswith(STATUS):
            return CUT
        at = self._received.find(HEAD_END) + len(HEAD_END)
        if self._received.startswith(b"101", len(STATUS)):
            return close_code(bytes(self._received[at:]))
        return " ".join(part[:3].decode() for part in self._received.split(STATUS)[1:])

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._tcp = cast("asyncio.Transport", transport)
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._received += data
        self._news.set()

    def eof_received(self) -> bool:
        """See asyncio."""
        return False

    def pause_writing(self) -> None:
        """See asyncio."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See asyncio."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.gone.set()
        self._news.set()
        self._writable.set()


def close_code(data: bytes) -> str:
    """Return the code of the close frame among an edge's frames, which are never masked."""
    at = 0
    while at + 2 <= len(data):
        opcode, length, body = data[at] & 0x0F, data[at + 1], at + 2
        if length > 125:
            width = 2 if length == 126 else 8
            length, body = int.from_bytes(data[body : body + width], "big"), body + width
        if opcode == Opcode.CLOSE:
            return str(int.from_bytes(data[body : body + 2], "big"))
        at = body + length
    return CUT
