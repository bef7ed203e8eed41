"""TLS on an accepted connection: between a socket and the protocol that serves it, which sees plain bytes.

It is our own since the event loops' TLS holds much more memory for each connection and cannot close one direction
(docs/decisions/0019). OpenSSL does the protocol; here bytes are passed on in pieces, so that its buffers stay small.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from tidewire.platform.tls_outcomes import BROKEN, CLOSED, HTTP, OK, TIMEOUT, outcome_of

PIECE: Final = 4096
"""Bytes that OpenSSL is handed at once, in both directions: its memory BIOs never give back what they once grew to."""
RECORD: Final = 16 * 1024
"""The most plain bytes in a record (RFC 8446, section 5.1)."""
TURN: Final = 0.002
"""Seconds of work that one connection gets in one turn of the loop; then its neighbours are served."""
MOST_OWED: Final = 4096
"""Bytes of TLS's own answers (alerts, key updates) for a peer that reads none of them."""
NO_TLS: Final = b"This port speaks TLS: use wss:// or https://.\n"
PLAIN_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(NO_TLS), NO_TLS)
)

_NOBODY: Final = asyncio.Protocol()
_NOTHING: Final[dict[str, Any]] = {}

Report = Callable[[str, asyncio.Transport], None]


class TlsState(enum.Enum):
    """HANDSHAKE, then OPEN, DEAF once our side has said goodbye or failed, CLOSED when the socket is gone."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    DEAF = "deaf"
    CLOSED = "closed"


_DONE: Final = frozenset({TlsState.DEAF, TlsState.CLOSED})


class TlsSocket(asyncio.Transport, asyncio.Protocol):
    """The protocol of a socket and the transport of `protocol`, in one slotted object.

    `protocol` is told of the connection when it is accepted, so that its own deadline covers the handshake, too; bytes
    come after that. `report` is told how the handshake of which socket ended, one of OUTCOMES. Everything that is written is
    encrypted at once and waits in the socket's own buffer, which pauses writing as without TLS.
    """

    __slots__ = (
        "_backlog",
        "_context",
        "_incoming",
        "_outgoing",
        "_owed",
        "_paused",
        "_protocol",
        "_reading",
        "_report",
        "_state",
        "_tcp",
        "_tls",
    )

    def __init__(self, context: ssl.SSLContext, protocol: asyncio.Protocol, report: Report) -> None:
        super().__init__(_NOTHING)
        self._context = context
        self._protocol = protocol
        self._report = report
        self._state = TlsState.HANDSHAKE
        self._tcp: asyncio.Transport | None = None
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._backlog = bytearray()
        """What came and is not decrypted: it waits for its turn, or until the protocol reads again."""
        self._reading = True
        self._paused = False
        self._owed = 0

    # asyncio.Protocol, for the socket.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the protocol. OpenSSL has no part in it before the first byte: silent peers cost little."""
        self._tcp = cast("asyncio.Transport", transport)
        self._protocol.connection_made(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._state in _DONE:
            return
        if self._backlog or not self._reading or len(data) > PIECE:
            self._backlog += data
            self._work_off()
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """Let the socket close. Where a stream ends without a goodbye the protocol's own framing tells a truncation."""
        if self._state is TlsState.OPEN:
            self._protocol.eof_received()
        return False

    def pause_writing(self) -> None:
        """The socket is full."""
        self._paused = True
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self._paused = False
        self._owed = 0
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol and let go of everything, which is a ring otherwise."""
        self._give_up(CLOSED)
        self._state = TlsState.CLOSED
        protocol, self._protocol = self._protocol, _NOBODY
        protocol.connection_lost(exc)
        self._tls = None
        self._backlog.clear()

    # asyncio.Transport, for the protocol.

    def get_extra_info(self, name: str, default: object = None) -> Any:  # noqa: ANN401 - as asyncio has it
        """What asyncio's TLS transports tell, `tls_version` (such as `TLSv1.3`), and what the socket tells."""
        if name == "sslcontext":
            return self._context
        if name == "tls_version":
            return (self._tls and self._tls.version()) or default
        return self._socket.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another one be served from now on."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who is served."""
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; what is written before the handshake's end or behind the goodbye is dropped."""
        if self._state is not TlsState.OPEN or self._tls is None:
            return
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            self._tls.write(view[start : start + PIECE])
            self._socket.write(self._outgoing.read())

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the peer, as they go over the wire."""
        return self._socket.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """TLS can close one direction (RFC 8446, section 6.1)."""
        return True

    def write_eof(self) -> None:
        """Say goodbye and send nothing more. The protocol gets no further bytes.

        They are read, so that the kernel does not answer them with a reset that would overtake what was written, and
        dropped until the peer ends.
        """
        self._say_goodbye()
        self._socket.write_eof()

    def close(self) -> None:
        """Say goodbye, and close when the socket's buffer is written; the peer's goodbye is not waited for."""
        self._say_goodbye()
        self._socket.close()

    def abort(self) -> None:
        """Close at once."""
        self._give_up(TIMEOUT)
        self._socket.abort()

    def is_closing(self) -> bool:
        """Whether the socket closes or is closed."""
        return self._socket.is_closing()

    def is_reading(self) -> bool:
        """Whether the protocol is given bytes."""
        return self._reading

    def pause_reading(self) -> None:
        """Keep back what comes, and read no more."""
        self._reading = False
        if not self._socket.is_closing():
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Go on, soon."""
        self._reading = True
        asyncio.get_running_loop().call_soon(self._work_off)

    # Between the two.

    @property
    def _socket(self) -> asyncio.Transport:
        if self._tcp is None:
            raise AssertionError("TLS without a socket")
        return self._tcp

    def _work_off(self) -> None:
        """Decrypt what waits. What does not fit into this turn of the loop waits on, and so does the socket."""
        loop = asyncio.get_running_loop()
        until = loop.time() + TURN
        while self._backlog and self._reading and self._state not in _DONE:
            piece = bytes(self._backlog[:PIECE])
            del self._backlog[:PIECE]
            self._feed(piece)
            if self._backlog and loop.time() >= until and not self._socket.is_closing():
                self._socket.pause_reading()
                loop.call_soon(self._work_off)
                return
        if self._reading and not self._socket.is_closing() and not self._socket.is_reading():
            self._socket.resume_reading()

    def _feed(self, piece: bytes) -> None:
        if self._tls is None:
            self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(piece)
        try:
            plain, ended = self._advance(self._tls)
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._answer()
        if plain:
            self._protocol.data_received(plain)
        if ended and self._state is TlsState.OPEN and not self._protocol.eof_received():
            self.close()

    def _advance(self, tls: ssl.SSLObject) -> tuple[bytes, bool]:
        """Return what can be decrypted, and whether the peer has said goodbye. Raises ssl.SSLError."""
        found: list[bytes] = []
        try:
            if self._state is TlsState.HANDSHAKE:
                tls.do_handshake()
                self._state = TlsState.OPEN
                self._report(OK, self)
            while self._incoming.pending or tls.pending():
                found.append(tls.read(RECORD))
                if not found[-1]:
                    return b"".join(found), True
        except ssl.SSLWantReadError:
            pass
        return b"".join(found), False

    def _answer(self) -> None:
        """Send what TLS itself has to say: its part of the handshake, alerts, key updates."""
        if not self._outgoing.pending:
            return
        answer = self._outgoing.read()
        self._owed += len(answer) if self._paused else 0
        if self._owed > MOST_OWED:
            self._report(BROKEN, self)
            self._grow_deaf()
            self._socket.abort()
        elif not self._socket.is_closing():
            self._socket.write(answer)

    def _fail(self, error: ssl.SSLError) -> None:
        outcome = outcome_of(error)
        self._report(outcome if self._state is TlsState.HANDSHAKE else BROKEN, self)
        self._grow_deaf()
        alert = self._outgoing.read()
        self._socket.write(PLAIN_ANSWER if outcome == HTTP else alert)
        self._socket.close()

    def _give_up(self, outcome: str) -> None:
        """End a handshake that has begun; a socket that never sent a byte is no handshake, but a balancer's probe."""
        if self._state is TlsState.HANDSHAKE and self._tls is not None:
            self._report(outcome, self)
            self._grow_deaf()

    def _grow_deaf(self) -> None:
        self._state = TlsState.DEAF
        self._backlog.clear()

    def _say_goodbye(self) -> None:
        """Send close_notify, behind which we say and hear nothing (RFC 8446, section 6.1)."""
        if self._state is TlsState.OPEN and self._tls is not None:
            with contextlib.suppress(ssl.SSLError):  # the peer's goodbye is not there, and not waited for
                self._tls.unwrap()
            self._grow_deaf()
            self._answer()
