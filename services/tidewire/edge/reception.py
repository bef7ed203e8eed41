"""A socket from accept until its request is answered: then it is a connection's, or plain HTTP's, or closed."""

from __future__ import annotations

import asyncio
import enum
import time
from functools import partial
from typing import TYPE_CHECKING, cast

from tidewire.edge.handshake import WEBSOCKET_PATH, Accept, Refuse, decide
from tidewire.edge.policies.client_address import canonical
from tidewire.edge.request_head import HEAD_END, HEAD_TOO_LARGE, MAX_HEAD, RequestHead, path_of
from tidewire.edge.transport import WebSocketTransport
from tidewire.edge.upgrade import NO_REQUEST, NOT_HERE, Answer, answer_to, refusal
from tidewire.platform.peer import has_left, peer_of, place
from tidewire.platform.rotation import MAX_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidewire.edge.gate import Gate


class ReceptionState(enum.Enum):
    """READING until the request is there, WAITING until its turn has come, ANSWERED when nothing more is to be said."""

    READING = "reading"
    WAITING = "waiting"
    ANSWERED = "answered"


class Reception(asyncio.Protocol):
    """The handshake of one socket. Requests that are not for the WebSocket path go to the HTTP application, if there is one."""

    __slots__ = ("_backlog", "_gate", "_state", "_tcp", "address", "counted", "due", "peer")

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._backlog = bytearray()
        """The head of the request, as far as it came, and what came behind it."""
        self._state = ReceptionState.READING
        self._tcp: asyncio.Transport | None = None
        self.due = 0
        self.address = ""
        """The client's IP address as canonical text; "" where the socket has none."""
        self.counted = ""
        """The address that the socket counts for: none where the other end is a proxy that has not told the client's yet."""
        self.peer = ""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake's time."""
        self._tcp = cast("asyncio.Transport", transport)
        address, self.peer = peer_of(transport)
        self.address = canonical(address) or ""
        if self._is_affordable(self._tcp):
            self._gate.enter(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        if self._state is ReceptionState.READING:
            self._read_head(data)
        elif self._state is ReceptionState.WAITING:
            self._backlog += data
            if len(self._backlog) > MAX_HEAD:
                self._socket.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the socket."""
        self._gate.leave(self, upgraded=False)

    # For the gate and the entrance.

    def came_from(self, address: str, port: int) -> None:
        """Take the address that a proxy gives in place of its own."""
        self.address, self.peer = canonical(address) or "", place(address, port)
        if self._is_affordable(self._socket):
            self._gate.count(self)

    @property
    def pending(self) -> int:
        """Bytes of a refusal that wait for the peer."""
        return self._socket.get_write_buffer_size()

    def overdue(self) -> None:
        """The time for the request, or for the peer to take its refusal, is over."""
        if self._state is not ReceptionState.ANSWERED:
            self._gate.metrics.handshake("timeout")
            self._gate.metrics.refused("timeout", "", self.peer)
        self.abort()

    def abort(self) -> None:
        """End the TCP connection at once."""
        self._socket.abort()

    @property
    def _socket(self) -> asyncio.Transport:
        if self._tcp is None:
            raise AssertionError("a handshake without a socket")
        return self._tcp

    def _is_affordable(self, tcp: asyncio.Transport) -> bool:
        """Return whether the socket may stay; otherwise it is closed without a word, which would cost too much."""
        reason = self._gate.unaffordable(self.address)
        if reason:
            self._gate.metrics.handshake(reason)
            self._gate.metrics.refused(reason, "", self.peer)
            tcp.abort()
        return not reason

    # From the request to its answer.

    def _read_head(self, data: bytes) -> None:
        searched = max(0, len(self._backlog) - len(HEAD_END) + 1)  # not again: a head may come byte by byte
        self._backlog += data
        end = self._backlog.find(HEAD_END, searched)
        if end < 0 and len(self._backlog) <= MAX_HEAD:
            return
        if end < 0 or end > MAX_HEAD:
            self._refuse(refusal(HEAD_TOO_LARGE))
        elif (path := path_of(bytes(self._backlog[:end]))) == WEBSOCKET_PATH:
            self._state = ReceptionState.WAITING
            self._gate.handshakes.add(partial(self._leave_line, time.monotonic()))
        elif self._gate.http is None:
            self._refuse(refusal(NOT_HERE if path else NO_REQUEST))
        else:
            self._hand_over(self._socket, self._gate.http)

    def _hand_over(self, tcp: asyncio.Transport, application: Callable[[], asyncio.Protocol]) -> None:
        """Give the socket to the HTTP application, with the bytes that came so far."""
        self._gate.host(self, tcp)
        http = application()
        tcp.set_protocol(http)
        http.connection_made(tcp)
        http.data_received(bytes(self._backlog))

    def _leave_line(self, since: float) -> bool:
        """Answer the request, which has waited since then, when its turn has come; its client may be gone meanwhile."""
        tcp = self._socket
        if tcp.is_closing():
            return False
        if has_left(tcp):  # to ask costs little, and dead ones may be most of a herd
            self._gate.metrics.handshake("gone")
            tcp.abort()
        elif time.monotonic() - since > MAX_WAIT:
            self._refuse(refusal(self._gate.shedder.overloaded()))
        else:
            self._answer(tcp)
        return False

    def _answer(self, tcp: asyncio.Transport) -> None:
        end = self._backlog.find(HEAD_END) + len(HEAD_END)
        compress = self._gate.limits.deflate_min_size is not None
        answer = answer_to(bytes(self._backlog[:end]), self._judge, compress=compress)
        if answer.accept is None:
            self._refuse(answer)
        else:
            self._open(tcp, answer, answer.accept, bytes(self._backlog[end:]))

    def _judge(self, request: RequestHead) -> Accept | Refuse:
        gate = self._gate
        self._locate(request)
        return gate.refusal(self.counted) or decide(
            request.target, request, gate.origins, gate.readiness(), gate.cookie
        )

    def _locate(self, request: RequestHead) -> None:
        """Behind proxies that are known, the client's address stands in a header. From here on it is final."""
        found = self._gate.proxies.client(self.address, request)
        self._gate.metrics.forwarded(found.outcome, self.peer)
        if found.address != self.address:
            self.address = self.peer = found.address
            self._gate.count(self)

    def _refuse(self, answer: Answer) -> None:
        """Count, log and send it; the socket closes once its buffer is written, which its deadline bounds."""
        self._state = ReceptionState.ANSWERED
        self._gate.metrics.handshake(answer.outcome)
        self._gate.metrics.bytes_out(len(answer.response))
        self._gate.metrics.refused(answer.outcome, answer.origin, self.peer)
        self._backlog.clear()
        self._socket.write(answer.response)
        self._socket.close()

    def _open(self, tcp: asyncio.Transport, answer: Answer, accept: Accept, rest: bytes) -> None:
        """Give the socket to a connection; `rest` are the bytes that came behind the request's head."""
        self._state = ReceptionState.ANSWERED
        self._gate.metrics.handshake(answer.outcome)
        transport = WebSocketTransport(self._gate, tcp, accept, answer.window_bits)
        transport.came_from(self.counted, self.peer)
        self._gate.upgrade(self, transport)
        tcp.set_protocol(transport)
        transport.open(answer.response, rest)
