"""Ordinary HTTP: an ASGI application behind uvicorn's protocol class, on sockets that we accept ourselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

KEEP_ALIVE_SECONDS = 5
MAX_CONCURRENT = 256
"""Requests at once on one listener; more are answered with 503."""


def http_protocol(app: ASGIApp) -> Callable[[], asyncio.Protocol]:
    """Return a factory of protocols that serve `app`; call it inside the running loop, once for each connection."""
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        limit_concurrency=MAX_CONCURRENT,
    )
    config.load()
    state = ServerState()
    protocol: Callable[..., asyncio.Protocol] = H11Protocol

    def create() -> asyncio.Protocol:
        return protocol(config=config, server_state=state, app_state={})

    return create


async def listen(
    factory: Callable[[], asyncio.BaseProtocol], address: str, port: int, setting: str
) -> asyncio.Server:
    """Listen, or raise ListenError naming the setting that chose the port."""
    try:
        return await asyncio.get_running_loop().create_server(factory, address, port, backlog=4096)
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
