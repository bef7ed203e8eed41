"""What stands between an accepted socket and HTTP: the PROXY header of a known proxy, then TLS, each if configured."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from tidewire.edge.proxy_protocol import Header, Malformed, parse
from tidewire.edge.reception import Reception
from tidewire.edge.transport import WebSocketTransport
from tidewire.platform.peer import peer_of
from tidewire.platform.tls import TlsPort, TlsSocket

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tidewire.edge.gate import Gate


class Entrance:
    """Makes the protocol of each accepted socket. `context` returns that of the certificate in force; None: no TLS."""

    def __init__(self, gate: Gate, context: Callable[[], ssl.SSLContext] | None, *, proxied: bool) -> None:
        self._gate = gate
        self._context = context
        self._proxied = proxied
        self._tls = TlsPort(gate.handshakes, gate.floods, self._tls_handshake)

    def __call__(self) -> asyncio.Protocol:
        """Return a protocol for one socket."""
        reception = Reception(self._gate)
        protocol: asyncio.Protocol = reception
        if self._context is not None:
            protocol = TlsSocket(self._context(), reception, self._tls)
        return ProxiedSocket(self._gate, reception, protocol) if self._proxied else protocol

    def _tls_handshake(self, outcome: str, tls: asyncio.Transport) -> None:
        """Pass on how a handshake ended, with the client's name; of plain HTTP only the socket's other end is known."""
        served = tls.get_protocol()
        peer = served.peer if isinstance(served, Reception | WebSocketTransport) else peer_of(tls)[1]
        self._gate.metrics.tls_handshake(outcome, peer)


class ProxiedSocket(asyncio.Protocol):
    """Reads the PROXY header and then takes itself out of the way: `protocol` gets the socket and what follows.

    `protocol` is told of the connection when it is accepted, so that the client's deadline covers the header, too; the
    client learns its address from the header.
    """

    __slots__ = ("_gate", "_head", "_protocol", "_reception", "_tcp", "_told")

    def __init__(self, gate: Gate, reception: Reception, protocol: asyncio.Protocol) -> None:
        self._gate = gate
        self._reception = reception
        self._protocol = protocol
        self._head = bytearray()
        self._tcp: asyncio.Transport | None = None
        self._told = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let in nobody but the proxies."""
        self._tcp = tcp = cast("asyncio.Transport", transport)
        self._protocol.connection_made(tcp)
        if tcp.is_closing():  # there are too many sockets
            self._told = True
        elif not self._reception.address:  # reset before it was accepted: so do some balancers check a port
            self._refuse("incomplete", tcp)
        elif not self._gate.proxies.trusts(self._reception.address):
            self._refuse("untrusted", tcp)

    def data_received(self, data: bytes) -> None:
        """Collect the header; its parser bounds it."""
        tcp = self._tcp
        if tcp is None or tcp.is_closing():
            return
        self._head += data
        found = parse(bytes(self._head))
        if isinstance(found, Malformed):
            self._refuse("malformed", tcp)
        elif found is not None:
            self._step_aside(found, tcp)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket ended before the header did."""
        if not self._told:
            self._gate.metrics.proxy_header("incomplete", self._reception.peer)
        self._protocol.connection_lost(exc)

    def _refuse(self, outcome: str, tcp: asyncio.Transport) -> None:
        self._tell(outcome)
        tcp.abort()

    def _step_aside(self, header: Header, tcp: asyncio.Transport) -> None:
        self._tell("used" if header.address else "local")
        if header.address:
            self._reception.came_from(header.address, header.port)
        if tcp.is_closing():  # its client has too many sockets
            return
        tcp.set_protocol(self._protocol)
        rest = bytes(self._head[header.size :])
        if rest:
            self._protocol.data_received(rest)

    def _tell(self, outcome: str) -> None:
        self._told = True
        self._gate.metrics.proxy_header(outcome, self._reception.peer)
