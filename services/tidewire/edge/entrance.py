"""What stands between an accepted socket and HTTP: the PROXY header of a known proxy, then TLS, each if configured."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from tidewire.edge.proxy_protocol import Header, Malformed, parse
from tidewire.edge.transport import WebSocketTransport
from tidewire.platform.tls import TlsSocket

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

    def __call__(self) -> asyncio.Protocol:
        """Return a protocol for one socket."""
        client = WebSocketTransport(self._gate)
        protocol: asyncio.Protocol = client
        if self._context is not None:
            protocol = TlsSocket(self._context(), client, client.tls_handshake)
        return ProxiedSocket(self._gate, client, protocol) if self._proxied else protocol


class ProxiedSocket(asyncio.Protocol):
    """Reads the PROXY header and then takes itself out of the way: `protocol` gets the socket and what follows.

    `protocol` is told of the connection when it is accepted, so that the client's deadline covers the header, too; the
    client learns its address from the header.
    """

    __slots__ = ("_client", "_gate", "_head", "_protocol", "_tcp", "_told")

    def __init__(self, gate: Gate, client: WebSocketTransport, protocol: asyncio.Protocol) -> None:
        self._gate = gate
        self._client = client
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
        elif not self._gate.proxies.trusts(self._client.address):
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
            self._gate.metrics.proxy_header("incomplete", self._client.peer)
        self._protocol.connection_lost(exc)

    def _refuse(self, outcome: str, tcp: asyncio.Transport) -> None:
        self._tell(outcome)
        tcp.abort()

    def _step_aside(self, header: Header, tcp: asyncio.Transport) -> None:
        self._tell("used" if header.address else "local")
        if header.address:
            self._client.came_from(header.address, header.port)
        if tcp.is_closing():  # its client has too many sockets
            return
        tcp.set_protocol(self._protocol)
        rest = bytes(self._head[header.size :])
        if rest:
            self._protocol.data_received(rest)

    def _tell(self, outcome: str) -> None:
        self._told = True
        self._gate.metrics.proxy_header(outcome, self._client.peer)
