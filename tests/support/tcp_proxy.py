"""A TCP proxy of the tests' own that can be cut in both ways a network is: by silence, and by a reset."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import cast

from tests.support.ports import free_ports
from tidewire.platform.tasks import ended

HOST = "127.0.0.1"
NO_LINGER = struct.pack("ii", 1, 0)
"""Of SO_LINGER: a close is a reset, and what was not sent is gone."""
Passage = Callable[[bytes], bytes]
"""Takes the bytes of one connection as they come from the target, and returns those that go on."""


class TcpProxy:
    """Passes bytes on to one port, at a port of its own that stays the same. Belongs to one event loop.

    `passage` makes what each connection's bytes from the target go through.
    """

    def __init__(self, target: int, port: int = 0, passage: Callable[[], Passage] | None = None) -> None:
        self.port = port
        self.passage = passage
        self._target = target
        self._server: asyncio.Server | None = None
        self.stalled = False
        self.ends: set[_End] = set()
        self._joining: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where NATS clients connect."""
        return f"nats://{HOST}:{self.port}"

    @property
    def joined(self) -> int:
        """How many connections go all the way."""
        return sum(end.other is not None for end in self.ends) // 2

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self.port = self.port or free_ports(1)[0]
        self._server = await loop.create_server(lambda: _End(self, is_far=False), HOST, self.port)

    def stall(self) -> None:
        """Swallow everything, ends of connections too, until mended; newcomers are accepted and hear nothing."""
        self.stalled = True
        for end in self.ends:
            end.hold()

    async def reset(self) -> None:
        """Reset all connections and refuse newcomers until mended."""
        await self._stop_listening()
        for end in list(self.ends):
            end.reset()

    async def mend(self) -> None:
        """Pass on again, beginning with what was swallowed: to the other side, it was late."""
        self.stalled = False
        if self._server is None:
            await self.start()
        for end in self.ends:
            if end.other is None:
                self._join(end)
            else:
                end.go_on()

    async def stop(self) -> None:
        """End everything."""
        await self.reset()
        await ended(self._joining)

    def accepted(self, near: _End) -> None:
        """Somebody has connected, and is connected onwards unless nothing may pass."""
        if not self.stalled:
            self._join(near)

    async def _stop_listening(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await asyncio.sleep(0)  # for asyncio to close its socket

    def _join(self, near: _End) -> None:
        task = asyncio.ensure_future(self._connect(near))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _connect(self, near: _End) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, far = await loop.create_connection(lambda: _End(self, is_far=True), HOST, self._target)
        except OSError:
            near.reset()
            return
        near.other, far.other = far, near
        near.go_on()
        far.go_on()


class _End(asyncio.Protocol):
    """One of the two sockets of a connection."""

    def __init__(self, proxy: TcpProxy, *, is_far: bool) -> None:
        self._proxy = proxy
        self._is_far = is_far
        self._tcp: asyncio.Transport | None = None
        self._passage = proxy.passage() if is_far and proxy.passage is not None else bytes
        self.other: _End | None = None

    def hold(self) -> None:
        """Read no more; the kernel's buffers fill up."""
        if self._tcp is not None:
            self._tcp.pause_reading()

    def go_on(self) -> None:
        """Read again, unless nothing may pass."""
        if self._tcp is not None and not self._proxy.stalled:
            self._tcp.resume_reading()

    def reset(self) -> None:
        """End it so that the peer is told of an error."""
        if self._tcp is not None:
            own: socket.socket = self._tcp.get_extra_info("socket")
            with contextlib.suppress(OSError):
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self._tcp.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._tcp = cast("asyncio.Transport", transport)
        self.hold()
        self._proxy.ends.add(self)
        if not self._is_far:
            self._proxy.accepted(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self.other is not None and self.other._tcp is not None:
            self.other._tcp.write(self._passage(data))

    def pause_writing(self) -> None:
        """Our peer is slow: read no more from the other one."""
        if self.other is not None:
            self.other.hold()

    def resume_writing(self) -> None:
        """Our peer takes bytes again."""
        if self.other is not None:
            self.other.go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other end has nobody to talk to any more, once it has said what is to be said."""
        self._proxy.ends.discard(self)
        self._tcp = None
        other, self.other = self.other, None
        if other is not None and other._tcp is not None:
            other._tcp.close()


@contextlib.asynccontextmanager
async def running_proxy(target: int) -> AsyncIterator[TcpProxy]:
    """Run a proxy in front of a port."""
    proxy = TcpProxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
