"""The socket of one connection: frames in and out. It asks «which bytes, may I write?» and nothing else."""

from __future__ import annotations

import asyncio
import enum
import secrets
from typing import TYPE_CHECKING, Final

from tidewire.edge.frames import FrameReader
from tidewire.edge.framing import WEBSOCKET_JSON, WEBSOCKET_PROTOBUF, Framing, deflated
from tidewire.edge.outbox import Outbox
from tidewire.kernel import errors
from tidewire.kernel.ids import ConnectionId

if TYPE_CHECKING:
    from tidewire.edge.gate import Gate
    from tidewire.edge.handshake import Accept
    from tidewire.kernel.errors import Disconnect

SLICE = 4096
"""Bytes that the frame reader is handed at once: the most that is done before others have their turn."""
SLICE_DEFLATED = 256
"""The same where the peer may compress: so few bytes inflate to 264 KB at most."""


class TransportState(enum.Enum):
    """OPEN, CLOSING once goodbye is said, CLOSED when the socket is gone."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


# Python 3.11 finds a member of an Enum by a call of a Python function; a name of the module is there at once.
_OPEN: Final = TransportState.OPEN


class WebSocketTransport(asyncio.Protocol):
    """Takes the socket over from its `Reception` when a request is accepted, and has a session from then on."""

    __slots__ = (
        "_authenticated",
        "_backlog",
        "_connection",
        "_eof",
        "_gate",
        "_outbox",
        "_paused",
        "_reader",
        "_tcp",
        "bytes_in",
        "bytes_out",
        "counted",
        "due",
        "framing",
        "peer",
        "state",
    )

    def __init__(self, gate: Gate, tcp: asyncio.Transport, accept: Accept, window_bits: int) -> None:
        """Begin a session. `window_bits` is the window to compress with, 0 where that was not agreed on."""
        self._gate = gate
        self._tcp = tcp
        self._backlog: bytearray | None = None
        """Frames that wait for their turn, if any do."""
        self._reader = FrameReader(gate.limits.message_size, deflate=window_bits > 0)
        self._outbox: Outbox | None = None
        self._paused = False
        self._eof = False
        self._authenticated = False
        self.framing = _framing(accept, window_bits, gate.limits.deflate_min_size)
        self.state = TransportState.OPEN
        self.due = 0
        self.counted = ""
        """The address that the socket counts for, "" for none."""
        self.peer = ""
        self.bytes_in = 0
        self.bytes_out = 0
        self._connection = gate.dispatcher.opened(
            _new_client(), self, json=not accept.protobuf, bearer=accept.bearer
        )

    def came_from(self, counted: str, peer: str) -> None:
        """Take the client's address as far as it is known: `counted` is the one that it counts for."""
        self.counted, self.peer = counted, peer
        self._connection.session.party.address = counted

    def open(self, response: bytes, rest: bytes) -> None:
        """End the handshake with `response`; `rest` are the bytes that came behind the request."""
        self._write(response)
        if rest:
            self._take(rest)
        if self._backlog is None:
            self._read_on()

    @property
    def tls_version(self) -> str:
        """`TLSv1.3` or the like; "" without TLS."""
        return str(self._tcp.get_extra_info("tls_version", ""))

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._backlog is None and len(data) <= SLICE_DEFLATED:  # most are: the shortest way
            self._read(data)
        else:
            self._take(data)

    def eof_received(self) -> bool:
        """Let the socket close: a WebSocket peer that ends its stream has nothing more to hear."""
        self._eof = True
        if self._backlog is None:
            self._reader.eof()
        return self._backlog is not None  # what waits for its turn still counts

    def pause_writing(self) -> None:
        """The socket is full: keep frames back, up to the bound."""
        self._paused = True

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self._paused = False
        if self._outbox is not None:
            waiting, self._outbox = self._outbox.take(), None
            self._write(waiting)
        if not self._paused:
            self._gate.dispatcher.writable(self._connection)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget everything."""
        self.state = TransportState.CLOSED
        self._gate.leave(self, upgraded=True, authenticated=self._authenticated)
        self._outbox = None
        self._gate.dispatcher.lost(self._connection)
        self._gate.metrics.ended(self._connection, self)
        del self._connection, self._tcp  # both refer to this: cycles would wait for the garbage collector

    # The port of the core.

    def send(self, frame: bytes) -> bool:
        """See `ports.Transport`."""
        if self.state is not _OPEN:
            return True
        if not self._paused:
            self._write(frame)
            return True
        if self._outbox is None:
            self._outbox = Outbox(self._gate.limits.pending_bytes)
        return self._outbox.put(frame)

    @property
    def congested(self) -> bool:
        """See `ports.Transport`."""
        return self._paused

    def authenticated(self) -> None:
        """See `ports.Transport`."""
        if self.state is not TransportState.CLOSED:
            self._authenticated = True
            self._gate.shedder.addresses.authenticate(self.counted)

    def close(self, disconnect: Disconnect) -> None:
        """See `ports.Transport`."""
        if self.state is not TransportState.OPEN:
            return
        waiting = self._outbox.take() if self._outbox is not None else b""
        self._outbox = None
        if waiting and disconnect is not errors.SLOW:
            self._write(waiting)
        self._reader.close(disconnect.code, disconnect.reason)
        self._say_goodbye()

    @property
    def pending(self) -> int:
        """Bytes that wait for the peer, here and in the socket's own buffer."""
        return self._tcp.get_write_buffer_size() + (self._outbox.size if self._outbox is not None else 0)

    @property
    def close_code(self) -> int:
        """The code of the close frame that ended the connection; 1006 where there was none (RFC 6455, 7.1.5)."""
        return self._reader.close_code

    def overdue(self) -> None:
        """The time for the peer's part of a close is over."""
        self.abort()

    def abort(self) -> None:
        """End the TCP connection at once."""
        if self.state is not TransportState.CLOSED:
            self._tcp.abort()

    # Frames.

    def _take(self, data: bytes) -> None:
        """Work off what came: a little at once, more of it in the rotation with all others that sent so much."""
        if self._backlog is not None:
            self._backlog += data
        elif len(data) <= self._slice:
            self._read(data)
        else:
            self._backlog = bytearray(data)
            self._gate.floods.add(self._work_off)
            self._tcp.pause_reading()  # at once: the loop would read on and on

    def _work_off(self) -> bool:
        """Work off one piece of what waits; return whether there is more. Then the socket is read again."""
        if self.state is TransportState.CLOSED or self._backlog is None:
            return False
        piece = bytes(self._backlog[: self._slice])
        del self._backlog[: self._slice]
        self._read(piece)
        if self._backlog:
            return True
        self._backlog = None
        self._read_on()
        return False

    @property
    def _slice(self) -> int:
        return SLICE_DEFLATED if self._reader.deflate else SLICE

    def _read_on(self) -> None:
        if self._tcp.is_closing():
            return
        if self._eof:
            self._tcp.close()
        elif not self._tcp.is_reading():
            self._tcp.resume_reading()

    def _read(self, data: bytes) -> None:
        self.bytes_in += len(data)
        self._gate.metrics.bytes_in(len(data))
        reader, connection = self._reader, self._connection
        if reader.ended:  # only read, so that our close frame is not lost (see below)
            return
        messages = reader.feed(data)
        if not reader.closing:  # pongs go before what is said to messages, a close frame behind it
            control = reader.outgoing()
            if control and not self.send(control):
                self._gate.dispatcher.slow(connection)
        if messages:
            self._gate.dispatcher.received(connection, messages)
        if reader.closing:
            if connection.disconnect is None:
                connection.disconnect = reader.fault
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Write what the closing handshake asks for, and see to it that it ends."""
        first = self.state is TransportState.OPEN
        self.state = TransportState.CLOSING
        self._write(self._reader.outgoing())
        if self._reader.ended:
            if first and self._reader.fault is not None:
                # The peer may be in the middle of a message. What it sends and nobody reads would make the kernel reset
                # the connection, and the peer would never see why.
                self._tcp.write_eof()
            else:
                self._tcp.close()
        if first:
            self._gate.arm(self, self._gate.limits.close_timeout)
            self._gate.dispatcher.lost(self._connection)

    def _write(self, data: bytes) -> None:
        if data and not self._tcp.is_closing():
            self.bytes_out += len(data)
            self._gate.metrics.bytes_out(len(data))
            self._tcp.write(data)


def _new_client() -> ConnectionId:
    """Return a random UUID (RFC 9562, section 5.4), in half the time that `uuid.uuid4` and its text take."""
    digits = secrets.token_hex(16)
    variant = "89ab"[int(digits[16], 16) & 3]
    return ConnectionId(
        f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
    )


def _framing(accept: Accept, window_bits: int, deflate_min_size: int | None) -> Framing:
    framing = WEBSOCKET_PROTOBUF if accept.protobuf else WEBSOCKET_JSON
    if window_bits and deflate_min_size is not None:
        return deflated(framing, window_bits, deflate_min_size)
    return framing
