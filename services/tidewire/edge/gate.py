"""What all connections of an edge share: the limits, the way to the sessions, and the clock for their first and last seconds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from tidewire.edge.handshake import Readiness
from tidewire.edge.load_shedding import LoadShedder
from tidewire.edge.policies.client_address import NOBODY
from tidewire.edge.timers import TICK
from tidewire.kernel.token_bucket import Allowance
from tidewire.kernel.wheel import Wheel
from tidewire.platform.open_files import connections_within, raise_limit
from tidewire.platform.rotation import Rotation

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.config import EdgeConfig
    from tidewire.edge.connection import Connection
    from tidewire.edge.dispatcher import Dispatcher
    from tidewire.edge.handshake import Refuse
    from tidewire.edge.policies.origins import OriginPolicy
    from tidewire.edge.reception import Reception
    from tidewire.edge.transport import WebSocketTransport


HTTP_LIFETIME = 30.0
"""Seconds that a socket which asked for plain HTTP may live: requests here are short, and slow ones are attacks."""


class Socket(Protocol):
    """A socket on the public port that is not plain HTTP's: in the hands of a `Reception`, then of a connection's transport."""

    counted: str
    """The client address that it counts for, "" for none."""
    due: int
    """The tick of its deadline."""

    @property
    def pending(self) -> int:
        """Bytes that wait for the peer."""

    def overdue(self) -> None:
        """The deadline has come."""

    def abort(self) -> None:
        """End the TCP connection at once."""


class TransportMetrics(Protocol):
    """What happens on sockets, for whoever counts."""

    def handshake(self, outcome: str) -> None:
        """A request was answered: `accepted`, or why not."""

    def refused(self, outcome: str, origin: str, peer: str) -> None:
        """A request or a socket was refused; `origin` is the Origin header as it came, `peer` the other end's address."""

    def tls_handshake(self, outcome: str, peer: str) -> None:
        """A TLS handshake ended, or an open connection was broken: one of `platform.tls_outcomes.OUTCOMES`."""

    def proxy_header(self, outcome: str, peer: str) -> None:
        """What became of a PROXY header: used, local, or why the socket was closed."""

    def forwarded(self, outcome: str, peer: str) -> None:
        """What became of the header with the client's address: see `policies.client_address`."""

    def turn_over(self) -> None:
        """Connections sent more than one turn of the loop allows them together: the rest waits."""

    def bytes_in(self, count: int) -> None:
        """Bytes of WebSocket connections came in."""

    def bytes_out(self, count: int) -> None:
        """Bytes of WebSocket connections went to the socket or its buffer."""

    def ended(self, connection: Connection, transport: WebSocketTransport) -> None:
        """An accepted connection is gone: the place of its one log line."""


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one connection, in bytes and seconds, and of what is let in; where nothing is said, 0 and None are no bound."""

    connections: int
    message_size: int
    pending_bytes: int
    handshake_timeout: float
    close_timeout: float
    deflate_min_size: int | None = None
    """Bytes from which a message is compressed for clients that take it; None where compression is declined."""
    address_connections: int = 0
    """Of one client address."""
    connection_rate: Allowance | None = None
    max_loop_lag: float = 0.0
    """Seconds, of the median lag."""


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
        address_connections=config.client.address_connection_limit,
        connection_rate=_connection_rate(config),
        max_loop_lag=config.client.max_loop_lag,
    )


def _connection_rate(config: EdgeConfig) -> Allowance | None:
    client = config.client
    rate, burst = client.connection_rate_limit, client.connection_rate_burst
    return Allowance(rate, burst) if rate else None


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
        http: Callable[[], asyncio.Protocol] | None,
    ) -> None:
        self.limits = limits
        self.origins = origins
        self.cookie = cookie
        """The name of the cookie that may hold a token, "" for none."""
        self.dispatcher = dispatcher
        self.metrics = metrics
        self.proxies = NOBODY
        """The proxies that are believed about a client's address."""
        self.handshakes = Rotation(metrics.turn_over)
        """TLS handshakes, and requests for an upgrade that were read, which wait for their turn: a herd comes all at once."""
        self.floods = Rotation(metrics.turn_over)
        """Connections that sent more than is worked off at once."""
        self.http = http
        """Makes the protocol of a socket that asks for a page; None where there are none."""
        self.transports: dict[Socket, None] = {}
        """Handshakes and connections."""
        self.shedder = LoadShedder()
        self.is_full: Callable[[str], bool] = _never
        """Whether an address is known to have all the connections that it may have, over all edges."""
        self._broker_available = broker_available
        self._deadlines: Wheel[Socket] = Wheel()
        self._guests: dict[asyncio.Transport, tuple[int, str]] = {}
        """Ticks that sockets of plain HTTP have left, and their addresses."""

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
    def room(self) -> int:
        """Sockets that may still come: a few more than connections could explain, to answer those that are refused.

        Connections beyond the limit, from before it was lowered, explain theirs.
        """
        connections = max(self.limits.connections, len(self.dispatcher.connections))
        return connections + max(64, self.limits.connections // 10) - self.sockets

    def unaffordable(self, address: str) -> str:
        """Return why a new socket of this address gets no answer at all, not even a refusal; "" where it may stay.

        One address has no more sockets that are not authenticated than there is room left, so it leaves as much to others as it
        takes (a dynamic threshold, Choudhury and Hahne 1998). One that stands for many clients hardly meets that: clients
        finish their handshake, and connect.
        """
        room = self.room
        if room <= 0:
            return "sockets"
        return "address_sockets" if self.shedder.addresses.unfinished(self._client(address)) >= room else ""

    def enter(self, reception: Reception) -> None:
        """Take in a socket that begins its handshake."""
        self.transports[reception] = None
        self.arm(reception, self.limits.handshake_timeout)
        self.count(reception)

    def count(self, reception: Reception) -> None:
        """Count a socket for its client, as far as that is known now."""
        addresses = self.shedder.addresses
        addresses.leave(reception.counted, upgraded=False)
        reception.counted = self._client(reception.address)
        addresses.enter(reception.counted)

    def upgrade(self, reception: Reception, transport: WebSocketTransport) -> None:
        """Let a connection take the place of its handshake, whose time is over."""
        self.disarm(reception)
        del self.transports[reception]
        self.transports[transport] = None
        self.shedder.addresses.upgrade(transport.counted)

    def _client(self, address: str) -> str:
        """Return the address itself, or "" for that of a proxy, which stands for clients that are not known yet."""
        return "" if self.proxies.trusts(address) else address

    def leave(self, socket: Socket, *, upgraded: bool, authenticated: bool = False) -> None:
        """Forget a socket; one that never entered is ignored."""
        self.disarm(socket)
        if socket in self.transports:
            del self.transports[socket]
            self.shedder.addresses.leave(socket.counted, upgraded=upgraded, authenticated=authenticated)

    def refusal(self, address: str) -> Refuse | None:
        """Return the answer to a handshake that comes at a bad time, whatever it says, or of an address that has enough."""
        return self.shedder.refusal(address, self.limits, full_elsewhere=self.is_full(address))

    def readiness(self) -> Readiness:
        """Return what decides about a handshake that was read."""
        return Readiness(len(self.dispatcher.connections), self.limits.connections, self._broker_available())

    def arm(self, socket: Socket, seconds: float) -> None:
        """End `socket` in `seconds`, unless it is disarmed."""
        self.disarm(socket)
        socket.due = self._deadlines.add(socket, math.ceil(seconds / TICK))

    def disarm(self, socket: Socket) -> None:
        """Take the deadline away."""
        self._deadlines.discard(socket, socket.due)

    def host(self, reception: Reception, tcp: asyncio.Transport) -> None:
        """Let plain HTTP on `tcp`, whose time runs from now, take the place of `reception`."""
        self.disarm(reception)
        del self.transports[reception]
        self._guests[tcp] = math.ceil(HTTP_LIFETIME / TICK), reception.counted

    def tick(self) -> None:
        """End what is overdue."""
        for tcp, (left, address) in list(self._guests.items()):
            if (
                tcp.is_closing() and not tcp.get_write_buffer_size()
            ):  # else its peer reads nothing, and it is still open
                del self._guests[tcp]
                self.shedder.addresses.leave(address, upgraded=False)
            elif left <= 1:
                tcp.abort()
            else:
                self._guests[tcp] = left - 1, address
        for socket in self._deadlines.advance():
            socket.overdue()


def _never(_address: str) -> bool:
    """Stand in where nothing limits addresses over all edges."""
    return False
