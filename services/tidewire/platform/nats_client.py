"""One connection to one NATS server: nats-py's client with its traps closed.

nats-py 2.16 does the handshake (TLS, credentials), its own subscriptions and JetStream management. What it does
about a lost connection is taken out, since in that version it can wait for ever (it closes the old socket and waits
until a server that reads no more has read everything) or end its read loop while it still calls itself connected.
Here every loss is reported once and the client is dropped; the link makes a new one. This module and nats_parser.py
are the only ones that know private names of nats-py.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import ParseResult, urlparse

from nats import errors
from nats.aio.client import DEFAULT_BUFFER_SIZE, PING_PROTO, PONG_PROTO, Client, Srv
from nats.aio.transport import TcpTransport
from nats.protocol.parser import PERMISSIONS_ERR

from tidewire.platform.nats_addresses import Server
from tidewire.platform.nats_parser import FastParser
from tidewire.platform.nats_types import LinkError, LinkOptions, RawSubscription, Traffic

PING = PING_PROTO
DISPOSE_TIMEOUT = 2.0
"""Seconds that the remains of a lost connection may take to end."""

REFUSALS = ("authorization", "authentication")
"""Words by which the server says that it is not the connection that is wrong but who asks."""


class PongWaiter(Protocol):
    """What may wait in line for a PONG, beside nats-py's futures."""

    def refuse(self) -> None:
        """Hear that the server turned down something that was written before the PING."""

    def done(self) -> bool:
        """Return whether nobody waits any more."""

    def set_result(self, result: bool, /) -> None:
        """Take the PONG."""


class ClientHooks(NamedTuple):
    """What a client reports; none of these raises."""

    lost: Callable[[LinkClient, Exception], None]
    error: Callable[[str, Exception], None]
    servers: Callable[[list[str]], None]
    chunk_end: Callable[[], None]


class _Tcp(TcpTransport):
    """nats-py's TCP transport, with the asyncio transport below it in reach."""

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """Connect to the first address that answers.

        The name is resolved here, since uvloop leaves a resolver's late failure unheard where a connection attempt is
        given up, and asyncio then complains in the log.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(uri.hostname, uri.port, type=socket.SOCK_STREAM)
        failure = OSError("its name has no address")
        for address in dict.fromkeys(str(each[4][0]) for each in found):
            host = f"[{address}]" if ":" in address else address
            try:
                await super().connect(uri._replace(netloc=f"{host}:{uri.port}"), buffer_size, connect_timeout)
            except OSError as error:
                failure = error
            else:
                return
        raise failure

    @property
    def wire(self) -> asyncio.WriteTransport:
        """The asyncio transport, after TLS if there is TLS."""
        if self._io_writer is None:
            raise LinkError("there is no connection to NATS")
        return self._io_writer.transport

    def abort(self) -> None:
        """Close at once, whatever waits to be written."""
        if self._io_writer is not None:
            self._io_writer.transport.abort()


class LinkClient(Client):
    """A nats-py client that lives for one connection and tells its hooks what happens to it."""

    def __init__(
        self,
        hooks: ClientHooks,
        subscriptions: Mapping[bytes, RawSubscription],
        traffic: Traffic,
        last_sid: int = 0,
    ) -> None:
        """Serve `subscriptions` by callbacks; sids of nats-py's own go on after `last_sid`."""
        super().__init__()
        self.dropped = False
        self._hooks = hooks
        self._sid = last_sid
        self._tcp: _Tcp = _Tcp()  # type: ignore[no-untyped-call]
        self._target: Server | None = None
        self._waiters: deque[PongWaiter] = deque()
        self._tls: ssl.SSLContext | None = None
        self._ps = self._fast = FastParser(
            self, subscriptions, traffic, hooks.chunk_end, self._callback_raised
        )

    # ------------------------------------------------------------------ for the link
    async def open(self, server: Server, options: LinkOptions, tls: ssl.SSLContext | None) -> None:
        """Connect and shake hands within `options.connect_timeout`.

        Raises:
            LinkError: It did not work; the sentence names the server, never a password.
        """
        self._target = server
        self._tls = tls or (ssl.create_default_context() if server.tls else None)
        try:
            async with asyncio.timeout(options.connect_timeout):
                await self.connect(**self._connect_arguments(server, options))
        except Exception as error:
            raise _explain(error, server, options) from error
        if self.dropped or not self.is_connected or self._reading_task is None:
            raise LinkError(f"NATS at {server.shown} closed the connection during the handshake")
        self._reading_task.add_done_callback(self._reading_ended)

    @property
    def last_sid(self) -> int:
        """The newest subscription id of this client."""
        return self._sid

    def next_sid(self) -> int:
        """Return a subscription id that nats-py will not use."""
        self._sid += 1
        return self._sid

    @property
    def server_info(self) -> Mapping[str, Any]:
        """What the server says of itself (INFO of the NATS protocol); nothing before the handshake."""
        return self._server_info

    @property
    def wire(self) -> asyncio.WriteTransport:
        """The asyncio transport to write protocol lines to."""
        return self._tcp.wire

    async def drained(self, timeout: float) -> None:
        """Wait until the socket takes more.

        Raises:
            LinkError: It did not within `timeout` seconds, or the connection is lost.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._tcp.drain()  # type: ignore[no-untyped-call]
        except (TimeoutError, OSError) as error:
            raise LinkError("NATS took no more bytes while subscriptions were sent again") from error

    def await_pong(self, waiter: PongWaiter) -> None:
        """Put `waiter` in line for the PONG of a PING that the caller writes before anything else may run."""
        self._waiters.append(waiter)
        self._pongs.append(waiter)  # type: ignore[arg-type]

    def drop(self) -> None:
        """End this connection now: nothing is delivered or sent any more. Call `dispose` when there is time."""
        if self.dropped:
            return
        self.dropped = True
        self._status = Client.DISCONNECTED
        self._fast.close()
        self._pending.clear()
        self._pending_data_size = 0
        self._tcp.abort()
        current = asyncio.current_task()
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None and task is not current:
                task.cancel()

    async def dispose(self) -> None:
        """Release what nats-py holds for its own subscriptions; bounded, and never raises."""
        self.drop()
        if self._flush_queue is None:
            return
        with contextlib.suppress(Exception):
            async with asyncio.timeout(DISPOSE_TIMEOUT):
                await self.close()

    def _connect_arguments(self, server: Server, options: LinkOptions) -> dict[str, Any]:
        return {
            "servers": [server.url],
            "error_cb": self._on_error,
            "name": options.name,
            "allow_reconnect": False,
            "dont_randomize": True,
            "connect_timeout": options.connect_timeout,
            "ping_interval": 5,
            "max_outstanding_pings": 2,
            "pending_size": -1,
            "tls": self._tls,
            "tls_hostname": server.tls_name or None,
            "user": options.user or None,
            "password": options.password if options.user else None,
            "user_credentials": options.credentials_file or None,
            "inbox_prefix": options.inbox_prefix,
        }

    def _callback_raised(self, error: Exception) -> None:
        self._hooks.error("callback", error)

    def _reading_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if not self.dropped:
            self._hooks.lost(self, LinkError(f"the NATS read loop ended ({error or 'no reason given'})"))

    async def _on_error(self, error: Exception) -> None:
        """Report what nats-py cannot raise: mostly messages that its own subscriptions lost."""
        if self.is_connected and not isinstance(error, errors.UnexpectedEOF):
            self._hooks.error(
                "slow_consumer" if isinstance(error, errors.SlowConsumerError) else "other", error
            )

    # ------------------------------------------------------------------ nats-py's own steps, replaced
    async def _select_next_server(self) -> None:
        """Connect to the one server of this client, once; which server is next is the link's business."""
        server = Srv(urlparse(self._target.url if self._target else ""))
        self._server_pool = [server]
        self._transport = self._tcp
        await self._tcp.connect(server.uri, DEFAULT_BUFFER_SIZE, self.options["connect_timeout"])
        self._current_server = server

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT002
        """Take news of the server; before anything secret is sent, insist on TLS where it was asked for."""
        if initial_connection and self._tls is not None and not info.get("tls_required"):
            if not info.get("tls_available"):
                raise errors.SecureConnWantedError
            info["tls_required"] = True
        self._max_payload = int(info.get("max_payload", self._max_payload))
        if addresses := info.get("connect_urls"):
            self._hooks.servers([str(address) for address in addresses])

    async def _process_err(self, err_msg: str) -> None:
        """Report an -ERR. The server itself closes the connection where it means to; many errors are not such.

        Those turn one command down. The server answers in the order of what it reads, so the command was written
        before the first PING of ours that is not answered yet, and after the one before it. A PONG for nats-py may
        come in between: it is not its futures that wait for our commands.
        """
        if self._waiters:
            self._waiters[0].refuse()
        error = errors.Error(f"nats: {err_msg.strip(chr(39))}")
        self._hooks.error("permissions" if PERMISSIONS_ERR in err_msg.lower() else "other", error)

    async def _process_op_err(self, e: Exception) -> None:
        self._hooks.lost(self, e)

    async def _process_ping(self) -> None:
        """Answer at once, past nats-py's queue: a full queue would stop the read loop."""
        self._tcp.wire.write(PONG_PROTO)

    async def _process_pong(self) -> None:
        """Serve who waits first; one that gave up (a cancelled flush) is passed over instead of raising."""
        self._pongs_received += 1
        self._pings_outstanding = 0
        if self._pongs:
            waiter: Any = self._pongs.pop(0)
            if self._waiters and waiter is self._waiters[0]:
                self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(True)


def _explain(error: Exception, server: Server, options: LinkOptions) -> LinkError:
    """Say in one sentence why a connection failed, and whether trying again is pointless."""
    where = f"NATS at {server.shown}"
    text = str(error)
    if isinstance(error, TimeoutError):
        return LinkError(f"{where} did not answer within {options.connect_timeout:g} s")
    if isinstance(error, errors.SecureConnWantedError):
        return LinkError(f"{where} offers no TLS, which the configuration asks for", final=True)
    if isinstance(error, ImportError):
        return LinkError("nats.credentials_file needs the Python package nkeys", final=True)
    if isinstance(error, ssl.SSLError):
        return LinkError(f"TLS with {where} failed ({text})", final=True)
    if isinstance(error, OSError):
        if error.filename is not None:
            return LinkError(f"the NATS credentials cannot be read ({text})", final=True)
        return LinkError(f"nothing answers at {server.shown} ({error.strerror or text})")
    if any(word in text.lower() for word in REFUSALS):
        who = f"user {options.user}" if options.user else "this client"
        return LinkError(f"{where} refused {who} ({text.removeprefix('nats: ').strip(chr(39))})", final=True)
    return LinkError(f"{where} refused the connection ({text or type(error).__name__})")
