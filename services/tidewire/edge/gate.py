"""What all connections of an edge share: the limits, the way to the sessions, and the clock for their first and last seconds."""

from __future__ import annotations

import math
from asyncio import BaseProtocol, Transport
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from tidewire.edge.handshake import Readiness
from tidewire.edge.rotation import Rotation
from tidewire.edge.timers import TICK
from tidewire.kernel.wheel import Wheel
from tidewire.platform.open_files import connections_within, raise_limit

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.config import EdgeConfig
    from tidewire.edge.connection import Connection
    from tidewire.edge.dispatcher import Dispatcher
    from tidewire.edge.policies.origins import OriginPolicy
    from tidewire.edge.transport import WebSocketTransport


HTTP_LIFETIME = 30.0
"""Seconds that a socket which asked for plain HTTP may live: requests here are short, and slow ones are attacks."""


class TransportMetrics(Protocol):
    """What happens on sockets, for whoever counts."""

    def handshake(self, outcome: str) -> None:
        """A request was answered: `accepted`, or why not."""

    def refused(self, outcome: str, origin: str, peer: str) -> None:
        """A request was refused; `origin` is the Origin header as it came, `peer` the other end's address."""

    def turn_over(self) -> None:
        """Connections sent more than one turn of the loop allows them together: the rest waits."""

    def bytes_in(self, count: int) -> None:
        """Bytes of WebSocket connections came in."""

    def bytes_out(self, count: int) -> None:
        """Bytes of WebSocket connections went to the socket or its buffer."""

    def ended(self, connection: Connection, transport: WebSocketTransport) -> None:
        """An accepted connection is gone: the place of its one log line."""


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one connection: bytes, and seconds."""

    connections: int
    message_size: int
    pending_bytes: int
    handshake_timeout: float
    close_timeout: float
    deflate_min_size: int | None = None
    """Bytes from which a message is compressed for clients that take it; None where compression is declined."""


def limits_of(config: EdgeConfig, log: FilteringBoundLogger) -> Limits:
    """Return the configured limits, with no more connections than the open files allow; fewer are a warning."""
    wanted = config.client.connection_limit
    files = raise_limit()
    connections = connections_within(files, wanted)
    if connections < wanted:
        log.warning("edge.connection_limit_lowered", wanted=wanted, connections=connections, open_files=files)
    return Limits(
        connections=connections,
        message_size=config.websocket.message_size_limit,
        pending_bytes=config.client.queue_max_size,
        handshake_timeout=config.client.handshake_timeout,
        close_timeout=config.websocket.close_timeout,
        deflate_min_size=config.websocket.compression_min_size if config.websocket.compression else None,
    )


class Gate:
    """Admission, and the deadlines of transports that have no session: before the upgrade and after the close."""

    def __init__(
        self,
        limits: Limits,
        origins: OriginPolicy,
        cookie: str,
        dispatcher: Dispatcher,
        metrics: TransportMetrics,
        broker_available: Callable[[], bool],
        http: Callable[[], BaseProtocol],
    ) -> None:
        self.limits = limits
        self.origins = origins
        self.cookie = cookie
        """The name of the cookie that may hold a token, "" for none."""
        self.dispatcher = dispatcher
        self.metrics = metrics
        self.handshakes = Rotation(metrics.turn_over)
        """Requests for an upgrade that were read and wait for their answer: a herd comes all at once."""
        self.floods = Rotation(metrics.turn_over)
        """Connections that sent more than is worked off at once."""
        self._http = http
        self.transports: dict[WebSocketTransport, None] = {}
        self._broker_available = broker_available
        self._deadlines: Wheel[WebSocketTransport] = Wheel()
        self._guests: dict[Transport, int] = {}

    def configure(self, limits: Limits, origins: OriginPolicy, cookie: str) -> None:
        """Judge by these from now on. Connections stay, also beyond a lower limit, with the buffers that they have."""
        self.limits = limits
        self.origins = origins
        self.cookie = cookie

    @property
    def sockets(self) -> int:
        """Sockets on the public port: connections, handshakes and plain HTTP."""
        return len(self.transports) + len(self._guests)

    @property
    def crowded(self) -> bool:
        """Whether there are more sockets than connections could explain: not even a refusal is affordable.

        Connections beyond the limit, from before it was lowered, explain theirs.
        """
        connections = max(self.limits.connections, len(self.dispatcher.connections))
        return self.sockets >= connections + max(64, self.limits.connections // 10)

    def readiness(self) -> Readiness:
        """Return what decides about the next handshake."""
        return Readiness(len(self.dispatcher.connections), self.limits.connections, self._broker_available())

    def arm(self, transport: WebSocketTransport, seconds: float) -> None:
        """End `transport` in `seconds`, unless it is disarmed."""
        self.disarm(transport)
        transport.due = self._deadlines.add(transport, math.ceil(seconds / TICK))

    def disarm(self, transport: WebSocketTransport) -> None:
        """Take the deadline away."""
        self._deadlines.discard(transport, transport.due)

    def host(self, tcp: Transport) -> BaseProtocol:
        """Return the protocol that serves plain HTTP on `tcp`, whose time runs from now."""
        self._guests[tcp] = math.ceil(HTTP_LIFETIME / TICK)
        return self._http()

    def tick(self) -> None:
        """End what is overdue."""
        for tcp, left in list(self._guests.items()):
            if tcp.is_closing():
                del self._guests[tcp]
            elif left <= 1:
                tcp.abort()
            else:
                self._guests[tcp] = left - 1
        for transport in self._deadlines.advance():
            transport.overdue()
