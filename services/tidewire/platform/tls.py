"""TLS on an accepted connection: between a socket and the protocol that serves it, which sees plain bytes.

It is our own since the event loops' TLS holds much more memory for each connection and cannot close one direction
(docs/decisions/0019). OpenSSL does the protocol; here bytes are passed on in pieces, so that its buffers stay small.
"""

from __future__ import annotations

import asyncio
import enum
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from tidewire.platform import tls_outcomes as outcomes
from tidewire.platform.layer import Layer
from tidewire.platform.peer import has_left
from tidewire.platform.rotation import MAX_WAIT, Rotation
from tidewire.platform.tls_engine import PIECE, TlsEngine

MOST_OWED: Final = 4096
"""Bytes of TLS's own answers (alerts, key updates) for a peer that reads none of them."""

_NOBODY: Final = asyncio.Protocol()


class TlsPort(msgspec.Struct):
    """What all TLS sockets of a port share: the lines in which they wait for their turn.

    `report` is told how the handshake of which socket ended, one of OUTCOMES.
    """

    handshakes: Rotation
    floods: Rotation
    report: Callable[[str, asyncio.Transport], None]


class TlsState(enum.Enum):
    """HELLO until the client's first message is answered, which is the expensive part, then HANDSHAKE, then OPEN.

    DEAF once our side has said goodbye or failed, CLOSED when the socket is gone.
    """

    HELLO = "hello"
    HANDSHAKE = "handshake"
    OPEN = "open"
    DEAF = "deaf"
    CLOSED = "closed"


_BEGUN: Final = frozenset({TlsState.HELLO, TlsState.HANDSHAKE})
_DONE: Final = frozenset({TlsState.DEAF, TlsState.CLOSED})


class TlsSocket(Layer):
    """The protocol of a socket and the transport of `protocol`, in one slotted object.

    `protocol` is told of the connection when it is accepted, so that its own deadline covers the handshake, too; bytes
    come after that. The handshake and what is over PIECE are worked off in turns with all others, and the socket is not read
    meanwhile. Everything that is written is encrypted at once and waits in the socket's own buffer, which pauses writing as
    without TLS.
    """

    __slots__ = ("_backlog", "_engine", "_eof", "_owed", "_paused", "_port", "_queued", "_reading", "_state")

    def __init__(self, context: ssl.SSLContext, protocol: asyncio.Protocol, port: TlsPort) -> None:
        super().__init__(protocol)
        self._engine = TlsEngine(context)
        self._port = port
        self._state = TlsState.HELLO
        self._backlog = bytearray()
        """What came and is not decrypted: it waits for its turn, or until the protocol reads again."""
        self._queued = False
        self._reading = True
        self._eof = False
        self._paused = False
        self._owed = 0

    # asyncio.Protocol, for the socket.

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._state in _DONE:
            return
        if self._backlog or not self._reading or self._state in _BEGUN or len(data) > PIECE:
            self._backlog += data
            self._queue()
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """Let the socket close, but not before what came is worked off, here and in the protocol.

        Where a stream ends without a goodbye the protocol's own framing tells a truncation.
        """
        if self._state not in {TlsState.HANDSHAKE, TlsState.OPEN}:
            return False
        self._eof = bool(self._backlog)
        return self._eof or (self._state is TlsState.OPEN and bool(self._protocol.eof_received()))

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
        self._give_up(outcomes.CLOSED)
        self._state = TlsState.CLOSED
        protocol, self._protocol = self._protocol, _NOBODY
        protocol.connection_lost(exc)
        self._engine.release()
        self._backlog.clear()

    # asyncio.Transport, for the protocol.

    def get_extra_info(self, name: str, default: object = None) -> Any:  # noqa: ANN401 - as asyncio has it
        """What asyncio's TLS transports tell, `tls_version` (such as `TLSv1.3`), and what the socket tells."""
        if name == "sslcontext":
            return self._engine.context
        if name == "tls_version":
            return self._engine.version or default
        return super().get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; what is written before the handshake's end or behind the goodbye is dropped."""
        if self._state is not TlsState.OPEN:
            return
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            self._socket.write(self._engine.encrypt(view[start : start + PIECE]))

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
        self._give_up(outcomes.TIMEOUT)
        self._socket.abort()

    def is_reading(self) -> bool:
        """Whether the protocol is given bytes."""
        return self._reading

    def pause_reading(self) -> None:
        """Keep back what comes, and read no more."""
        self._reading = False
        if not self._socket.is_closing():
            self._socket.pause_reading()

    def resume_reading(self) -> None:
        """Go on, soon with what came already."""
        self._reading = True
        self._read_on()

    # Between the two.

    def _queue(self) -> None:
        """Wait for a turn to decrypt what came, unless that is so already or the protocol does not read."""
        if self._queued or not self._reading:
            return
        self._queued = True
        if not self._socket.is_closing():
            self._socket.pause_reading()  # at once: the loop would read on and on
        if self._state in _BEGUN:
            self._port.handshakes.add(partial(self._shake_hands, time.monotonic()))
        else:
            self._port.floods.add(self._work_off)

    def _shake_hands(self, since: float) -> bool:
        """Go on with a handshake that has waited since then; return whether there is more of it."""
        if self._state is TlsState.HELLO:
            self._give_up_in_time(since)
        if not self._work_off():
            return False
        if self._state in _BEGUN:
            return True
        self._port.floods.add(self._work_off)
        return False

    def _give_up_in_time(self, since: float) -> None:
        """Before the expensive part: the client may be away, or is about to go."""
        gone = self._socket.is_closing() or has_left(self._socket)
        if gone or time.monotonic() - since > MAX_WAIT:
            self._give_up(outcomes.GONE if gone else outcomes.OVERLOAD)
            self._socket.abort()

    def _work_off(self) -> bool:
        """Decrypt one piece; return whether more waits. Then the socket is read again."""
        if self._reading and self._state not in _DONE:
            piece = bytes(self._backlog[:PIECE])
            del self._backlog[:PIECE]
            self._feed(piece)
        if self._backlog and self._reading:
            return True
        self._queued = False
        self._read_on()
        return False

    def _read_on(self) -> None:
        if self._backlog:
            self._queue()
        elif self._socket.is_closing() or not self._reading:
            return
        elif self._eof:
            self._eof = False
            self._end()
        elif not self._socket.is_reading():
            self._socket.resume_reading()

    def _end(self) -> None:
        """Pass on that nothing more comes, and close, unless the protocol has work left: then it closes."""
        if self._state is not TlsState.OPEN or not self._protocol.eof_received():
            self.close()

    def _feed(self, piece: bytes) -> None:
        failure: ssl.SSLError | None = None
        plain, ended = b"", False
        try:
            plain, ended = self._engine.decrypt(piece)
        except ssl.SSLError as error:
            failure = error
        if self._engine.open and self._state in _BEGUN:
            self._state = TlsState.OPEN
            self._port.report(outcomes.OK, self)
        if failure is not None:
            self._fail(failure)
            return
        self._answer()
        if plain:
            self._protocol.data_received(plain)
        if ended and self._state is TlsState.OPEN:
            self._end()

    def _answer(self) -> None:
        """Send what TLS itself has to say."""
        answer = self._engine.answer()
        if not answer:
            return
        if self._state is TlsState.HELLO:
            self._state = TlsState.HANDSHAKE
        self._owed += len(answer) if self._paused else 0
        if self._owed > MOST_OWED:
            self._port.report(outcomes.BROKEN, self)
            self._grow_deaf()
            self._socket.abort()
        elif not self._socket.is_closing():
            self._socket.write(answer)

    def _fail(self, error: ssl.SSLError) -> None:
        outcome = outcomes.outcome_of(error)
        self._port.report(outcome if self._state in _BEGUN else outcomes.BROKEN, self)
        self._grow_deaf()
        alert = self._engine.answer()
        self._socket.write(outcomes.PLAIN_ANSWER if outcome == outcomes.HTTP else alert)
        self._socket.close()

    def _give_up(self, outcome: str) -> None:
        """End a handshake that has begun; a socket that never sent a byte is no handshake, but a balancer's probe."""
        if self._state in _BEGUN and (self._engine.begun or self._backlog):
            self._port.report(outcome, self)
            self._grow_deaf()

    def _grow_deaf(self) -> None:
        self._state = TlsState.DEAF
        self._backlog.clear()

    def _say_goodbye(self) -> None:
        """Send close_notify, behind which we say and hear nothing (RFC 8446, section 6.1)."""
        if self._state is TlsState.OPEN:
            self._engine.say_goodbye()
            self._grow_deaf()
            self._answer()
