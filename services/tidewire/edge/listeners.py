"""Where an edge is reached: by its clients, and by those who run it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.platform.health import internal_app, worker_app
from tidewire.platform.http import Listener, http_protocol, listen, listen_at

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from tidewire.edge.config import HttpConfig
    from tidewire.platform.metrics import Registry


class Listeners:
    """The public and the internal listener of one edge process.

    A worker shares the public port with others. It has no internal port but `socket`, the path of a Unix socket at which
    the owner of the internal port asks every worker.
    """

    def __init__(self, http: HttpConfig, socket: str = "") -> None:
        self._http = http
        self._socket = socket
        self._internal: Listener | None = None
        self._public: Listener | None = None

    async def open_internal(self, registry: Registry, unready: Callable[[], str | None]) -> None:
        """Answer probes and scrapes from now on. Raises ListenError."""
        http = self._http
        if self._socket:
            self._internal = await listen_at(http_protocol(worker_app(registry, unready)), self._socket)
        else:
            pages = http_protocol(internal_app(registry, unready))
            self._internal = await listen(
                pages, http.internal_address, http.internal_port, "http.internal_port"
            )

    async def open_public(self, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Accept clients from now on. Raises ListenError."""
        shared = bool(self._socket)
        self._public = await listen(factory, self._http.address, self._http.port, "http.port", shared=shared)

    def ports(self) -> dict[str, int]:
        """Return the ports that are open, by the names that logs give them."""
        found = {"port": self._public, "internal_port": self._internal}
        return {name: each.port for name, each in found.items() if each is not None and each.port}

    async def close_public_in_order(self) -> None:
        """Accept no client beyond those that wait already."""
        if self._public is not None:
            await self._public.close_in_order()

    def close(self) -> None:
        """Close both."""
        for listener in (self._public, self._internal):
            if listener is not None:
                listener.close()
