"""The edge put together: the only module that knows every part, and the process's start, drain and end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tidewire import __version__
from tidewire.edge import parts
from tidewire.edge.adapters.jwks import JwksFetcher
from tidewire.edge.adapters.mapping import rescue
from tidewire.edge.adapters.nats_presence import NatsPresence
from tidewire.edge.adapters.node_check import NodeCheck
from tidewire.edge.adapters.stored_messages import StoredMessages
from tidewire.edge.agreement import Agreement
from tidewire.edge.cache_telemetry import cache_metrics
from tidewire.edge.config import needed_payload
from tidewire.edge.control import Control
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.drain import retire_all, wait_for
from tidewire.edge.entrance import Entrance
from tidewire.edge.gate import Gate, limits_of
from tidewire.edge.hub import Hub
from tidewire.edge.key_telemetry import KeyTelemetry
from tidewire.edge.listeners import Listeners
from tidewire.edge.nats_telemetry import NatsTelemetry
from tidewire.edge.pacer import Pacer
from tidewire.edge.pages import public_app
from tidewire.edge.policies.issuer import TokenIssuer
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.edge.policies.origins import OriginPolicy
from tidewire.edge.positions import Positions
from tidewire.edge.presence_telemetry import PresenceTelemetry
from tidewire.edge.rules import Rules
from tidewire.edge.seat import ALONE, Seat
from tidewire.edge.socket_telemetry import SocketTelemetry
from tidewire.edge.stream_telemetry import StreamTelemetry
from tidewire.edge.telemetry import Telemetry
from tidewire.edge.ticker import Ticker
from tidewire.edge.timers import TICK, Timers
from tidewire.edge.tracing import EdgeTracer
from tidewire.edge.untraced import OFF
from tidewire.kernel.clock import SystemClock
from tidewire.options.nats_options import link_options
from tidewire.options.stored import stored
from tidewire.platform import logs
from tidewire.platform.garbage import settle
from tidewire.platform.http import ListenError, http_protocol
from tidewire.platform.lifecycle import StartError, node_name
from tidewire.platform.metrics import Registry
from tidewire.platform.nats_types import LinkError
from tidewire.platform.nats_watch import WatchedLink
from tidewire.platform.reload import Reloader
from tidewire.platform.rpc_telemetry import RpcClientMetrics
from tidewire.platform.tracing import create_tracer

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.config import EdgeConfig
    from tidewire.edge.ports import Done
    from tidewire.kernel.errors import ReplyError

SHORTEST_LINGER = 1


class Edge:
    """One edge process; implements `lifecycle.App`. `load` reads and checks the configuration again, for a reload.

    `config` is as it was written, for all edges that share the public port; `seat` says which of them this is.
    """

    def __init__(
        self,
        config: EdgeConfig,
        log: FilteringBoundLogger,
        load: Callable[[], EdgeConfig],
        seat: Seat = ALONE,
    ) -> None:
        self._seat = seat
        whole, config = config, seat.portion(config)
        self._node = node_name(config.node_name)
        self._log = log.bind(node=self._node)
        self._unready: str | None = "starting"
        self._listeners = Listeners(config.http, seat.socket)
        clock = SystemClock()
        self._tls = parts.public_tls(config, self._log, clock)
        self._reloader = Reloader(whole, load, self._configure, self._log, clock.wall, self._read_files)
        self._telemetry = Telemetry(self._log, clock.monotonic)
        self._sockets = SocketTelemetry(self._log, clock.monotonic)
        self._nats = NatsTelemetry(self._log, clock.monotonic)
        self._stream_telemetry = StreamTelemetry(self._log, clock.monotonic)
        self._watched = WatchedLink(
            link_options(config.nats, self._node), self._log, clock.monotonic, self._link_turned, self._flush
        )
        self._link = self._watched.link
        keys = KeyCache()
        self._key_telemetry = KeyTelemetry(keys, clock)
        self._rules = Rules(config, clock, __version__, keys)
        self._tracing = create_tracer(config.tracing, self._node, clock, self._log)
        tracer = EdgeTracer(self._tracing, clock) if self._tracing is not None else OFF
        nats = config.nats
        self._broker = parts.broker(config, self._link, clock, self._telemetry, self._soon, tracer)
        self._keys = JwksFetcher(keys, clock, self._key_telemetry, self._log)
        linger = max(SHORTEST_LINGER, round(config.channel.unsubscribe_linger / TICK))
        self._hub = Hub(self._broker, self._telemetry, clock, linger, _later)
        self._rpc_metrics = RpcClientMetrics()
        self._history = (
            parts.history(
                config, self._broker, self._rpc_metrics, self._log, clock, self._tracing, self._node
            )
            if config.history.target
            else None
        )
        self._who = parts.presence_service(config, self._rpc_metrics, self._log, clock, self._tracing)
        self._rate_limits = parts.rate_limits(
            config, self._rules, self._node, self._rpc_metrics, self._log, clock, self._tracing, _later
        )
        self._positions: Positions | None = None
        if self._history is not None:
            self._positions = Positions(self._history, self._hub, self._rules, self._telemetry, random.random)
        self._dispatcher = Dispatcher(
            self._rules,
            self._hub,
            self._broker,
            self._keys,
            self._telemetry,
            Timers(parts.timing(config), random.random),
            Pacer(clock, _later),
            tracer,
        )
        self._streams = parts.streams(
            config, self._link, self._broker, self._dispatcher, self._stream_telemetry, tracer, clock, _later
        )
        self._presence_telemetry = PresenceTelemetry(self._log, clock.monotonic)
        self._presence = parts.presence(
            NatsPresence(self._link, self._node, nats.partitions, self._presence_telemetry),
            self._hub,
            self._dispatcher,
            self._rules,
            self._who,
            self._presence_telemetry,
            clock,
            _later,
        )
        self._agreement = Agreement(self._link, self._streams, config, self._log)
        self._control = Control(self._dispatcher, self._broker, self._telemetry, self.reload)
        self._gate = self._create_gate()
        self._node_check = NodeCheck(
            self._link, self._broker, nats.partitions, self._nats, self._log, self._sweep
        )
        self._ticker = Ticker(
            [
                self._dispatcher.tick,
                self._streams.tick,
                self._gate.tick,
                self._keys.tick,
                self._presence.tick,
                *([self._positions.tick] if self._positions is not None else ()),
                *([self._rate_limits.tick] if self._rate_limits is not None else ()),
            ],
            [self._telemetry.loop_lag, self._gate.shedder.lag.note],
            self._nats,
            self._link,
            clock.monotonic,
        )

    @property
    def _config(self) -> EdgeConfig:
        """What this edge takes of the configuration in force."""
        return self._seat.portion(self._reloader.config)

    def _configure(self, whole: EdgeConfig) -> None:
        """Put a configuration in force that differs in reloadable settings only."""
        config = self._seat.portion(whole)
        self._rules.configure(config)
        if self._rate_limits is not None:
            self._rate_limits.configure(config.rate_limits, self._rules)
        client = config.client
        origins = OriginPolicy(client.allowed_origins)
        self._gate.configure(limits_of(config, self._log), origins, client.token.cookie)
        self._gate.proxies = parts.proxies(config)
        self._broker.call_timeout = config.rpc.timeout
        self._broker.stored = StoredMessages(config.nats.partitions, stored(config))
        self._dispatcher.reconfigured(parts.timing(config))
        self._agreement.follow(config)
        logs.set_level(config.log.level)

    def _flush(self) -> None:
        """Pass on what one read from NATS brought."""
        try:
            self._streams.flush()
        finally:
            self._hub.flush()
            self._presence.lobby.flush()

    def _read_files(self, config: EdgeConfig) -> Callable[[], Sequence[str]]:
        """Read what the configuration only names; see `reload.Reloader`."""
        renew = self._tls.reading(config)

        def put_in_force() -> Sequence[str]:
            if self._history is not None:
                self._history.reload()
            if self._who is not None:
                self._who.reload()
            if self._rate_limits is not None:
                self._rate_limits.service.reload()
            return renew()

        return put_in_force

    def _create_gate(self) -> Gate:
        config, http = self._config, self._config.http
        pages = Path(http.pages) if http.pages else None
        ports = [edge.port for edge in config.dev.edges]
        issue = self._issue_token if http.issue_tokens else None
        gate = Gate(
            limits_of(config, self._log),
            OriginPolicy(config.client.allowed_origins),
            config.client.token.cookie,
            self._dispatcher,
            self._sockets,
            lambda: self._broker.available,
            http_protocol(public_app(pages, self._node, http.scheme, ports, issue)) if pages else None,
        )
        gate.proxies = parts.proxies(config)
        if self._rate_limits is not None:
            gate.is_full = self._rate_limits.is_full
        return gate

    def _issue_token(self, user: str) -> str:
        return TokenIssuer(self._config.client.token).connection(user)

    def _soon(self, done: Done, error: ReplyError) -> None:
        asyncio.get_running_loop().call_soon(done, error)

    # lifecycle.App

    async def start(self) -> None:
        """Reach NATS, prove its mapping, listen. Raises StartError with one clear line."""
        registry = Registry()
        self._telemetry.register(registry, self._hub, self._dispatcher, __version__)
        self._sockets.register(registry, self._gate)
        self._nats.register(registry)
        registry.add(self._watched.metrics())
        self._stream_telemetry.register(registry, self._streams.lanes)
        self._key_telemetry.register(registry)
        registry.add(cache_metrics(self._rules))
        registry.add(self._tls.metrics())
        registry.add(self._reloader.metrics())
        if self._tracing is not None:
            registry.add([self._tracing.spans])
        if self._positions is not None:
            registry.add(self._positions.gauges())
        if self._rate_limits is not None:
            registry.add(self._rate_limits.metrics())
        if any(each is not None for each in (self._history, self._who, self._rate_limits)):
            registry.add(self._rpc_metrics.all())
        registry.add(self._presence_telemetry.all(self._presence.lobby))
        try:
            await self._listeners.open_internal(registry, lambda: self._unready)
            if self._history is not None:
                await self._history.start()
            if self._who is not None:
                await self._who.start()
            if self._rate_limits is not None:
                await self._rate_limits.service.start()
            await self._link.start()
            await self._node_check.prove(needed_payload(self._config))
            await self._agreement.start()
            rescue(self._link, self._config.nats.partitions, self._nats.unmapped, self._nats.unmapped_lost)
            self._broker.take_orders(self._node, self._control.obey)
            self._presence.beat()
            settle()
            self._ticker.start()
            context, proxied = self._tls.context, self._config.http.proxy_protocol
            await self._listeners.open_public(Entrance(self._gate, context, proxied=proxied))
        except (ListenError, LinkError) as error:
            raise StartError(str(error)) from error
        self._unready = None
        self._log.info(
            "edge.ready",
            version=__version__,
            **self._listeners.ports(),
            nats=self._link.server_name,
            partitions=self._config.nats.partitions,
        )

    async def work(self) -> None:
        """See lifecycle.App: it only answers clients and NATS, and what one of them makes go wrong costs no other."""
        await asyncio.Event().wait()

    def reload(self) -> None:
        """Take the configuration as it is now, soon; once the edge drains only a log line. Safe to call at any rate."""
        self._reloader.request()

    async def drain(self) -> None:
        """Not ready but accepting for `drain.delay`, then closed, and clients let go over `drain.window`."""
        drain = self._config.drain
        self._unready = "draining"
        self._reloader.close(self._unready)
        await asyncio.sleep(drain.delay)
        await self._listeners.close_public_in_order()
        grace = self._config.nats.publish_timeout + self._config.websocket.close_timeout + 1
        connections = len(self._dispatcher.connections)
        send_waiting = self._hub.batches.send_all
        await retire_all(
            self._dispatcher, drain.window, lambda: not self._gate.transports, grace, send_waiting
        )
        await wait_for(lambda: not len(self._streams.lanes), self._config.nats.publish_timeout)
        for connection in list(self._dispatcher.connections):  # they would not go: they are gone all the same
            self._dispatcher.lost(connection)
        self._presence.end()
        self._log.info("edge.drained", connections=connections, left=len(self._gate.transports))

    async def stop(self) -> None:
        """End every socket and the link."""
        self._unready = "stopped"
        self._reloader.stop()
        self._agreement.stop()
        self._listeners.close()
        self._ticker.stop()
        for transport in list(self._gate.transports):
            transport.abort()
        await self._keys.close()
        if self._history is not None:
            await self._history.close()
        if self._who is not None:
            await self._who.close()
        if self._rate_limits is not None:
            await self._rate_limits.close()
        await self._link.close()
        if self._tracing is not None:
            await self._tracing.close(self._log)

    def _link_turned(self, is_up: bool) -> None:
        """While it is away, clients stay and publishers get a temporary error. Then another node may be behind it."""
        if is_up:
            self._agreement.look()
            self._presence.beat()
            self._node_check.again()

    def _sweep(self) -> None:
        if self._positions is not None:
            self._positions.sweep.all()


def _later(seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, callback)
