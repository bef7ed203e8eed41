"""A TCP balancer of the tests' own: new connections go to edges whose `/ready` says yes, bytes pass unchanged."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import Protocol, cast

from tests.support.http import request
from tidewire.platform.tasks import ended

POLL = 0.05
"""Seconds between two looks at `/ready`; load balancers look less often."""
BACKLOG = 1024


class Backend(Protocol):
    """What the balancer knows of an edge; one without a port has not started yet."""

    port: int

    @property
    def internal_url(self) -> str:
        """Where `/ready` is."""


class Balancer:
    """Belongs to one event loop; use `running_balancer`. A connection stays where it was sent, whatever comes."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends
        self._server: asyncio.Server | None = None
        self._polling: asyncio.Task[None] | None = None
        self._turn = 0
        self._sides: set[_Side] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self.ready: set[int] = set()
        """Ports of the edges that are ready."""
        self.sent: Counter[int] = Counter()
        """Connections that each edge was given so far, by port."""
        self.refused = 0
        """Connections that were closed because no edge took them."""

    @property
    def ws_url(self) -> str:
        """Where clients connect."""
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/connection/websocket"

    async def start(self) -> None:
        """Look at the edges once, then listen."""
        await self._look()
        self._polling = asyncio.create_task(self._poll())
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0, backlog=BACKLOG)

    def cut(self, share: float = 1.0, dice: Random | None = None) -> None:
        """Cut every connection, or about this share of them as the dice fall; new ones are taken."""
        for side in list(self._sides):
            if dice is None or dice.random() < share / 2:  # each connection has two sides
                side.abort()

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
        tasks = [task for task in (self._polling, *self._opening) if task is not None]
        await ended(tasks)
        for side in list(self._sides):
            side.abort()
        if self._server is not None:
            await self._server.wait_closed()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            await self._look()

    async def _look(self) -> None:
        verdicts = await asyncio.gather(*(_is_ready(backend) for backend in self._backends))
        self.ready = {b.port for b, verdict in zip(self._backends, verdicts, strict=True) if verdict}

    def _accept(self) -> _Side:
        return _Side(self._sides, self._accepted)

    def _accepted(self, client: _Side) -> None:
        task = asyncio.ensure_future(self._join(client))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _join(self, client: _Side) -> None:
        """Connect a client to an edge. One that does not accept is passed over: nothing was sent to it yet."""
        loop = asyncio.get_running_loop()
        for port in self._choices():
            try:
                _, edge = await loop.create_connection(lambda: _Side(self._sides), "127.0.0.1", port)
            except OSError:
                continue
            self.sent[port] += 1
            client.pair(edge)
            edge.pair(client)
            return
        self.refused += 1
        client.abort()

    def _choices(self) -> list[int]:
        """Return the ports to try: ready edges, each time another one first."""
        ports = [backend.port for backend in self._backends if backend.port in self.ready]
        self._turn += 1
        first = self._turn % len(ports) if ports else 0
        return ports[first:] + ports[:first]


class _Side(asyncio.Protocol):
    """One of the two sockets of a connection; what it reads goes to the other one."""

    def __init__(self, sides: set[_Side], made: Callable[[_Side], None] | None = None) -> None:
        self._sides = sides
        self._made = made
        self._tcp: asyncio.Transport | None = None
        self._other: _Side | None = None
        self._early = bytearray()
        self._ended = False

    def pair(self, other: _Side) -> None:
        """Begin to pass on, with what has come so far."""
        self._other = other
        if self._early:
            other.write(bytes(self._early))
            self._early.clear()
        if self._ended:
            other.end()
            if other._ended:
                self.close()
                other.close()

    def write(self, data: bytes) -> None:
        """Send to this side's peer."""
        if self._tcp is not None:
            self._tcp.write(data)

    def end(self) -> None:
        """The other peer has ended its stream: end ours."""
        if self._tcp is not None and not self._tcp.is_closing():
            with contextlib.suppress(OSError):
                self._tcp.write_eof()

    def close(self) -> None:
        """End once everything is written."""
        if self._tcp is not None:
            self._tcp.close()

    def abort(self) -> None:
        """Cut."""
        if self._tcp is not None:
            self._tcp.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._tcp = cast("asyncio.Transport", transport)
        self._sides.add(self)
        if self._made is not None:
            self._made(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._other is None:
            self._early += data
        else:
            self._other.write(data)

    def eof_received(self) -> bool:
        """Keep our direction open until the other peer ends, too."""
        self._ended = True
        if self._other is not None:
            self._other.end()
            if self._other._ended:
                self.close()
                self._other.close()
        return True

    def pause_writing(self) -> None:
        """Our peer is slow: read no more from the other one."""
        if self._other is not None and self._other._tcp is not None:
            self._other._tcp.pause_reading()

    def resume_writing(self) -> None:
        """Our peer takes bytes again."""
        if self._other is not None and self._other._tcp is not None:
            self._other._tcp.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side as this one ended: after what is written, or at once."""
        self._sides.discard(self)
        self._tcp = None
        other, self._other = self._other, None
        if other is not None and other._tcp is not None:
            if exc is None:
                other._tcp.close()
            else:
                other._tcp.abort()


async def _is_ready(backend: Backend) -> bool:
    if not backend.port:
        return False
    try:
        return (await request(f"{backend.internal_url}/ready")).status == 200
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False


@contextlib.asynccontextmanager
async def running_balancer(backends: Sequence[Backend]) -> AsyncIterator[Balancer]:
    """Run a balancer for one test."""
    balancer = Balancer(backends)
    await balancer.start()
    try:
        yield balancer
    finally:
        await balancer.stop()
