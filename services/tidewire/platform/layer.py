"""A layer between an accepted socket and the protocol that it serves: to the one a protocol, to the other a transport."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

_NOTHING: Final[dict[str, Any]] = {}


class Layer(asyncio.Transport, asyncio.Protocol):
    """What every layer passes on: a socket that was accepted, and what its protocol asks of the socket."""

    __slots__ = ("_protocol", "_tcp")

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__(_NOTHING)
        self._protocol = protocol
        self._tcp: asyncio.Transport | None = None

    @property
    def _socket(self) -> asyncio.Transport:
        if self._tcp is None:
            raise AssertionError("a layer without a socket")
        return self._tcp

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell the protocol, whose own deadline covers what the layer does first."""
        self._tcp = cast("asyncio.Transport", transport)
        self._protocol.connection_made(self)

    def get_extra_info(self, name: str, default: object = None) -> Any:  # noqa: ANN401 - as asyncio has it
        """Return what the socket tells."""
        return self._socket.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another one be served from now on."""
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who is served."""
        return self._protocol

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the peer, as they go over the wire."""
        return self._socket.get_write_buffer_size()

    def is_closing(self) -> bool:
        """Whether the socket closes or is closed."""
        return self._socket.is_closing()
