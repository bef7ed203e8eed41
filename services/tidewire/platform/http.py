"""Ordinary HTTP: an ASGI application behind uvicorn's protocol class, on sockets that we accept ourselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tidewire.platform.ports import BACKLOG

KEEP_ALIVE_SECONDS = 5
LIFETIME = 30.0
"""Seconds that a connection may live: requests here are short, and a slow or idle peer must not hold a socket."""


def http_protocol(app: ASGIApp) -> Callable[[], asyncio.Protocol]:
    """Return a factory of protocols that serve `app`; call it inside the running loop, once for each connection.

    No number of connections makes it refuse a request: uvicorn counts idle sockets as requests, and so a few hundred of
    them would silence probes. What bounds them is their lifetime and the process's open files.
    """
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    state = ServerState()
    protocol: Callable[..., asyncio.Protocol] = _Mortal

    def create() -> asyncio.Protocol:
        return protocol(config=config, server_state=state, app_state={})

    return create


class _Mortal(H11Protocol):
    """uvicorn's protocol, with an end."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin the connection's time."""
        self._end = asyncio.get_running_loop().call_later(LIFETIME, transport.abort)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the deadline away."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


async def listen(
    factory: Callable[[], asyncio.BaseProtocol], address: str, port: int, setting: str
) -> asyncio.Server:
    """Listen, or raise ListenError naming the setting that chose the port."""
    try:
        return await asyncio.get_running_loop().create_server(factory, address, port, backlog=BACKLOG)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {address}:{port} ({setting}): {error.strerror or error}"
        ) from error


class ListenError(Exception):
    """A port could not be had; the message is one clear line."""


def bound_port(server: asyncio.Server) -> int:
    """Return the port that a server listens on (which the configuration may have left open with 0)."""
    port: int = server.sockets[0].getsockname()[1]
    return port
