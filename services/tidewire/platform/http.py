"""Ordinary HTTP: an ASGI application behind uvicorn's protocol class, on sockets that we accept ourselves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tidewire.platform.ports import BACKLOG

KEEP_ALIVE_SECONDS = 5
ACCEPTS_PER_TURN = 16
"""Connections that are accepted in one turn of the loop: uvloop takes one for each server that it has on a socket."""
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
        log_level="error",  # its warnings are about requests, and come as fast as these
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
    factory: Callable[[], asyncio.BaseProtocol],
    address: str,
    port: int,
    setting: str,
    *,
    shared: bool = False,
) -> Listener:
    """Listen, or raise ListenError naming the setting that chose the port; `shared`: beside other processes that do so, too."""
    try:
        return await Listener(factory, bind(address, port, shared=shared)).open()
    except OSError as error:
        raise ListenError(
            f"cannot listen on {address}:{port} ({setting}): {error.strerror or error}"
        ) from error


async def listen_at(factory: Callable[[], asyncio.BaseProtocol], path: str) -> Listener:
    """Listen at a path of the file system, in place of a socket that a process left there, or raise ListenError."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        Path(path).unlink(missing_ok=True)  # noqa: ASYNC240 - in memory, and before anybody is served
        sock.bind(path)
        return await Listener(factory, [sock]).open()
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen at {path}: {error.strerror or error}") from error


class ListenError(Exception):
    """A port could not be had; the message is one clear line."""


class Listener:
    """Accepts connections, on one socket for each address that a name stands for."""

    def __init__(self, factory: Callable[[], asyncio.BaseProtocol], sockets: Sequence[socket.socket]) -> None:
        self._factory = factory
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []
        self.port = 0 if sockets[0].family == socket.AF_UNIX else port_of(sockets)

    async def open(self) -> Self:
        """Begin. Raises OSError, and then all of its sockets are closed."""
        loop = asyncio.get_running_loop()
        try:
            for sock in self._sockets:
                sock.setblocking(False)
                create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
                for each in (sock, *(sock.dup() for _ in range(ACCEPTS_PER_TURN - 1))):
                    self._servers.append(await create(self._factory, sock=each, backlog=BACKLOG))
        except OSError:
            self.close()
            for sock in self._sockets:
                sock.close()
            raise
        return self

    def close(self) -> None:
        """End at once. The kernel resets connections that nobody has accepted yet."""
        for server in self._servers:
            server.close()

    async def close_in_order(self) -> None:
        """Accept what has queued up, then end: between the last look into the queue and the end nothing else is done."""
        waiting = list(self._queued())
        self.close()
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.connect_accepted_socket(self._factory, sock) for sock in waiting))

    def _queued(self) -> Iterator[socket.socket]:
        for sock in self._sockets:
            with contextlib.suppress(OSError):  # the queue is empty, or there is no file for another socket
                for _ in range(2 * BACKLOG):
                    accepted, _ = sock.accept()
                    accepted.setblocking(False)
                    yield accepted


def bind(address: str, port: int, *, shared: bool) -> list[socket.socket]:
    """Return a bound socket for each address that `address` (an IP address or a name) stands for. Raises OSError.

    With `shared`, other processes of this user may bind the port as well, and the kernel spreads connections over those
    that listen.
    """
    found = []
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = socket.socket(family, kind, protocol)
            found.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(place)
    except OSError:
        for sock in found:
            sock.close()
        raise
    return found


def port_of(sockets: Sequence[socket.socket]) -> int:
    """Return the port of bound sockets (which the configuration may have left open with 0)."""
    port: int = sockets[0].getsockname()[1]
    return port
