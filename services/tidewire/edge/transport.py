"""One TCP connection: the handshake, then frames in and out. It asks «which bytes, may I write?» and nothing else."""

from __future__ import annotations

import asyncio
import enum
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, cast

from websockets.http11 import Request
from websockets.server import ServerProtocol

from tidewire.edge.deflate import EXTENSIONS, agreed_window
from tidewire.edge.frames import FrameReader
from tidewire.edge.framing import WEBSOCKET_JSON, WEBSOCKET_PROTOBUF, Framing, deflated
from tidewire.edge.handshake import RETRY_AFTER, WEBSOCKET_PATH, Accept, Refuse, decide
from tidewire.edge.outbox import Outbox
from tidewire.kernel import errors
from tidewire.kernel.ids import ConnectionId
from tidewire.platform.peer import has_left

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.gate import Gate
    from tidewire.kernel.errors import Disconnect

MAX_REQUEST = 16 * 1024
"""Bytes of a request's head; browsers with many cookies stay below it."""
TOO_LARGE = "The request's head is over 16 KiB.\n"
UNREADABLE = "Not a request that can be read: a line over 8 KiB, more than 128 fields, or no HTTP.\n"
OVERLOADED = "This edge is overloaded; try again.\n"
MAX_WAIT = 1.0
"""Seconds that a request may wait for its answer. The SDKs give up 5 s after TCP has connected them, and the kernel made it
wait, too: what comes too late for them was for nothing, and keeps the next one waiting."""
HEAD_END = b"\r\n\r\n"
SLICE = 4096
"""Bytes that the frame reader is handed at once: the most that is done before others have their turn."""


class TransportState(enum.Enum):
    """HANDSHAKE until the request is there, WAITING until it is answered.

    Then OPEN, CLOSING once goodbye is said, CLOSED when the socket is gone.
    """

    HANDSHAKE = "handshake"
    WAITING = "waiting"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class WebSocketTransport(asyncio.Protocol):
    """The socket of one client. Requests that are not for the WebSocket path go to the HTTP application."""

    __slots__ = (
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
        "due",
        "framing",
        "peer",
        "state",
    )

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._backlog = bytearray()
        """What came and is not worked off: the head of the request, then frames that wait for their turn."""
        self._reader: FrameReader | None = None
        self._connection: Connection | None = None
        self._outbox: Outbox | None = None
        self._paused = False
        self._eof = False
        self._tcp: asyncio.Transport | None = None
        self.framing: Framing = WEBSOCKET_JSON
        self.state = TransportState.HANDSHAKE
        self.due = 0
        self.peer = ""
        self.bytes_in = 0
        self.bytes_out = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake's time."""
        self._tcp = cast("asyncio.Transport", transport)
        if self._gate.crowded:
            self._gate.metrics.handshake("sockets")
            self._tcp.abort()
            return
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""
        self._gate.transports[self] = None
        self._gate.arm(self, self._gate.limits.handshake_timeout)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._reader is not None:
            self._take(data)
        elif self.state is TransportState.HANDSHAKE:
            self._backlog += data
            self._read_head()
        elif self.state is TransportState.WAITING and self._tcp is not None:
            self._backlog += data
            if len(self._backlog) > MAX_REQUEST:
                self._tcp.pause_reading()

    def eof_received(self) -> bool:
        """Let the socket close: a WebSocket peer that ends its stream has nothing more to hear."""
        self._eof = True
        if self._reader is not None and not self._backlog:
            self._reader.eof()
        return bool(self._reader and self._backlog)  # what waits for its turn still counts

    def pause_writing(self) -> None:
        """The socket is full: keep frames back, up to the bound."""
        self._paused = True

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self._paused = False
        if self._outbox is not None:
            waiting, self._outbox = self._outbox.take(), None
            self._write(waiting)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget everything."""
        self.state = TransportState.CLOSED
        self._gate.disarm(self)
        self._gate.transports.pop(self, None)
        self._outbox = None
        if self._connection is not None:
            self._gate.dispatcher.lost(self._connection)
            self._gate.metrics.ended(self._connection, self)
        self._connection = self._tcp = None  # both refer to this: cycles would wait for the garbage collector

    # The port of the core.

    def send(self, frame: bytes) -> bool:
        """See `ports.Transport`."""
        if self.state is not TransportState.OPEN:
            return True
        if not self._paused:
            self._write(frame)
            return True
        if self._outbox is None:
            self._outbox = Outbox(self._gate.limits.pending_bytes)
        return self._outbox.put(frame)

    def close(self, disconnect: Disconnect) -> None:
        """See `ports.Transport`."""
        if self.state is not TransportState.OPEN or self._reader is None:
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
        buffered = self._tcp.get_write_buffer_size() if self._tcp is not None else 0
        return buffered + (self._outbox.size if self._outbox is not None else 0)

    @property
    def close_code(self) -> int:
        """The code of the close frame that ended the connection; 1006 where there was none (RFC 6455, 7.1.5)."""
        return self._reader.close_code if self._reader is not None else 1006

    def overdue(self) -> None:
        """The time for a handshake, or for the peer's part of a close, is over."""
        if self.state in {TransportState.HANDSHAKE, TransportState.WAITING}:
            self._gate.metrics.handshake("timeout")
            self._gate.metrics.refused("timeout", "", self.peer)
        self.abort()

    def abort(self) -> None:
        """End the TCP connection at once."""
        if self._tcp is not None:
            self._tcp.abort()

    # Handshake.

    def _read_head(self) -> None:
        end = self._backlog.find(HEAD_END)
        if end < 0 and len(self._backlog) <= MAX_REQUEST:
            return
        if end < 0 or end > MAX_REQUEST:
            self._refuse_raw(431, "Request Header Fields Too Large", "head_too_large", TOO_LARGE)
        elif _path(self._backlog) == WEBSOCKET_PATH:
            self.state = TransportState.WAITING
            self._gate.handshakes.add(partial(self._leave_line, time.monotonic()))
        else:
            self._hand_over()

    def _leave_line(self, since: float) -> bool:
        """Answer the request, which has waited since then, when its turn has come; its client may be gone meanwhile."""
        tcp = self._tcp
        if tcp is None or tcp.is_closing() or self.state is not TransportState.WAITING:
            return False
        if has_left(
            tcp
        ):  # in a herd most may be dead, and a handshake costs ten times as much as this question
            self._gate.metrics.handshake("gone")
            tcp.abort()
        elif time.monotonic() - since > MAX_WAIT:
            retry = f"Retry-After: {RETRY_AFTER}\r\n"
            self._refuse_raw(503, "Service Unavailable", "overload", OVERLOADED, retry)
        else:
            end = self._backlog.find(HEAD_END) + len(HEAD_END)
            self._upgrade(bytes(self._backlog[:end]), bytes(self._backlog[end:]))
            if not self._backlog:
                self._read_on(tcp)
        return False

    def _hand_over(self) -> None:
        """Give the socket to the HTTP application, with the bytes that came so far."""
        if self._tcp is None:
            raise AssertionError("a request without a socket")
        self._gate.disarm(self)
        self._gate.transports.pop(self, None)
        http = cast("asyncio.Protocol", self._gate.host(self._tcp))
        self._tcp.set_protocol(http)
        http.connection_made(self._tcp)
        http.data_received(bytes(self._backlog))
        self._backlog.clear()

    def _upgrade(self, head: bytes, rest: bytes) -> None:
        """Answer a request for the WebSocket path; `rest` are the bytes that came behind its head."""
        self._backlog.clear()
        compress = self._gate.limits.deflate_min_size is not None
        protocol = ServerProtocol(extensions=EXTENSIONS if compress else None)
        protocol.receive_data(head)
        request = next((event for event in protocol.events_received() if isinstance(event, Request)), None)
        if request is None:
            self._refuse_raw(400, "Bad Request", "bad_request", UNREADABLE)
            return
        verdict = decide(
            request.path, request.headers, self._gate.origins, self._gate.readiness(), self._gate.cookie
        )
        if isinstance(verdict, Refuse):
            response = protocol.reject(verdict.status, verdict.sentence + "\n")
            if verdict.retry_after:
                response.headers["Retry-After"] = str(verdict.retry_after)
            outcome = verdict.outcome
        else:
            if "Sec-WebSocket-Protocol" in request.headers:  # `pop` fails on a field that stands twice
                del request.headers["Sec-WebSocket-Protocol"]
            response = protocol.accept(request)
            outcome = "accepted" if response.status_code == 101 else "bad_upgrade"
            if outcome == "accepted" and verdict.subprotocol is not None:
                response.headers["Sec-WebSocket-Protocol"] = verdict.subprotocol
        self._gate.metrics.handshake(outcome)
        if outcome != "accepted":
            self._gate.metrics.refused(outcome, ", ".join(request.headers.get_all("Origin")), self.peer)
        protocol.send_response(response)
        self._write(b"".join(protocol.data_to_send()))
        if isinstance(verdict, Accept) and outcome == "accepted":
            self._open(verdict, agreed_window(protocol.extensions), rest)
        else:
            self._end()

    def _open(self, verdict: Accept, window_bits: int, rest: bytes) -> None:
        self._gate.disarm(self)
        self.state = TransportState.OPEN
        self.framing = WEBSOCKET_PROTOBUF if verdict.protobuf else WEBSOCKET_JSON
        limits = self._gate.limits
        if window_bits and limits.deflate_min_size is not None:
            self.framing = deflated(self.framing, window_bits, limits.deflate_min_size)
        self._reader = FrameReader(limits.message_size, deflate=window_bits > 0)
        client = ConnectionId(str(uuid.uuid4()))
        self._connection = self._gate.dispatcher.opened(
            client, self, json=not verdict.protobuf, bearer=verdict.bearer
        )
        if rest:
            self._take(rest)

    def _refuse_raw(self, status: int, phrase: str, outcome: str, sentence: str, more: str = "") -> None:
        """Answer and end; `more` are further header lines."""
        self._gate.metrics.handshake(outcome)
        self._gate.metrics.refused(outcome, "", self.peer)
        head = f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\n{more}Content-Type: text/plain\r\n"
        self._write(f"{head}Content-Length: {len(sentence)}\r\n\r\n{sentence}".encode())
        self._end()

    # Frames.

    def _take(self, data: bytes) -> None:
        """Work off what came: a little at once, more of it in the rotation with all others that sent so much."""
        if not self._backlog and len(data) <= SLICE:
            self._read(data)
            return
        if not self._backlog and self._tcp is not None:
            self._gate.floods.add(self._work_off)
            self._tcp.pause_reading()  # at once: the loop would read on and on
        self._backlog += data

    def _work_off(self) -> bool:
        """Work off one piece of what waits; return whether there is more. Then the socket is read again."""
        tcp = self._tcp
        if tcp is None or self.state is TransportState.CLOSED:
            return False
        piece = bytes(self._backlog[:SLICE])
        del self._backlog[:SLICE]
        self._read(piece)
        if self._backlog:
            return True
        self._read_on(tcp)
        return False

    def _read_on(self, tcp: asyncio.Transport) -> None:
        if tcp.is_closing():
            return
        if self._eof:
            tcp.close()
        elif not tcp.is_reading():
            tcp.resume_reading()

    def _read(self, data: bytes) -> None:
        reader, connection = self._reader, self._connection
        if reader is None or connection is None:
            raise AssertionError("frames before the handshake")
        self.bytes_in += len(data)
        self._gate.metrics.bytes_in(len(data))
        if reader.ended:  # only read, so that our close frame is not lost (see below)
            return
        messages = reader.feed(data)
        if not reader.closing:  # pongs go before what is said to messages, a close frame behind it
            control = reader.outgoing()
            if control and not self.send(control):
                self._gate.dispatcher.slow(connection)
        for message in messages:
            self._gate.dispatcher.received(connection, message)
        if reader.closing:
            if connection.disconnect is None:
                connection.disconnect = reader.fault
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Write what the closing handshake asks for, and see to it that it ends."""
        if self._reader is None or self._connection is None:
            raise AssertionError("a close before the handshake")
        first = self.state is TransportState.OPEN
        self.state = TransportState.CLOSING
        self._write(self._reader.outgoing())
        if self._reader.ended and self._tcp is not None:
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
        if data and self._tcp is not None and not self._tcp.is_closing():
            self.bytes_out += len(data)
            self._gate.metrics.bytes_out(len(data))
            self._tcp.write(data)

    def _end(self) -> None:
        """Close the socket once its buffer is written; the handshake's deadline bounds that."""
        if self._tcp is not None:
            self._tcp.close()


def _path(head: bytes | bytearray) -> str:
    """Return the path of the request line, without query; "" when there is none."""
    words = bytes(head[: head.find(b"\r\n")]).split(b" ")
    if len(words) != 3:
        return ""
    target = words[1]
    if target.startswith(
        (b"http://", b"https://")
    ):  # the absolute form, which servers must take (RFC 9112, 3.2.2)
        target = b"/" + target.split(b"://", 1)[1].partition(b"/")[2]
    return target.partition(b"?")[0].decode("latin-1")
