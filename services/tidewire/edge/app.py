"""The edge put together: the only module that knows every part, and the process's start, drain and end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from secrets import token_hex
from socket import gethostname
from typing import TYPE_CHECKING

from tidewire import __version__
from tidewire.edge.adapters.jwks import JwksFetcher
from tidewire.edge.adapters.mapping import MAPPING_PROBLEMS, Mapping, probe, rescue
from tidewire.edge.adapters.nats_broker import NatsBroker
from tidewire.edge.adapters.stored_messages import StoredMessages
from tidewire.edge.adapters.stream_publisher import StreamPublisher, terms_of
from tidewire.edge.agreement import Agreement
from tidewire.edge.cache_telemetry import cache_metrics
from tidewire.edge.control import Control
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.drain import retire_all, wait_for
from tidewire.edge.entrance import Entrance
from tidewire.edge.gate import Gate, limits_of
from tidewire.edge.hub import Hub
from tidewire.edge.key_telemetry import KeyTelemetry
from tidewire.edge.lane import LaneLimits
from tidewire.edge.link_watch import LinkWatch
from tidewire.edge.listeners import Listeners
from tidewire.edge.nats_telemetry import NatsTelemetry
from tidewire.edge.pacer import Pacer
from tidewire.edge.pages import public_app
from tidewire.edge.policies.client_address import TrustedProxies
from tidewire.edge.policies.issuer import TokenIssuer
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.edge.policies.origins import OriginPolicy
from tidewire.edge.positions import Positions
from tidewire.edge.public_tls import PublicTls
from tidewire.edge.rules import Rules
from tidewire.edge.seat import ALONE, Seat
from tidewire.edge.socket_telemetry import SocketTelemetry
from tidewire.edge.stream_telemetry import StreamTelemetry
from tidewire.edge.stream_upstream import StreamUpstream
from tidewire.edge.telemetry import Telemetry
from tidewire.edge.ticker import Ticker
from tidewire.edge.timers import TICK, Timers, Timing
from tidewire.edge.tracing import EdgeTracer
from tidewire.edge.untraced import OFF
from tidewire.kernel.clock import SystemClock
from tidewire.kernel.config import ConfigError
from tidewire.kernel.nats_config import inbox_prefix
from tidewire.options.nats_options import ANONYMOUS, link_options
from tidewire.options.stored import stored
from tidewire.platform import logs
from tidewire.platform.garbage import settle
from tidewire.platform.http import ListenError, http_protocol
from tidewire.platform.lifecycle import StartError
from tidewire.platform.metrics import Registry
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkError, LinkState
from tidewire.platform.reload import Reloader
from tidewire.platform.rpc_telemetry import RpcClientMetrics
from tidewire.platform.tracing import create_tracer

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.adapters.grpc_history import GrpcHistory
    from tidewire.edge.config import EdgeConfig
    from tidewire.edge.ports import Done
    from tidewire.edge.ports import Tracer as EdgeTracing
    from tidewire.kernel.clock import Clock
    from tidewire.kernel.errors import ReplyError
    from tidewire.platform.tracing import Tracer

HEADER_ROOM = 4096
"""Bytes of a NATS message beside data and connection info."""
SHORTEST_LINGER = 1
PROBES_AT_START = 3
PROBE_PAUSE = 1.0
"""Seconds between probes of a node that did not answer one."""


def new_node_name() -> str:
    """Return the name of an edge that is given none."""
    return f"{gethostname()}-{token_hex(3)}"


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
        self._node = config.node_name or new_node_name()
        self._log = log.bind(node=self._node)
        self._unready: str | None = "starting"
        self._listeners = Listeners(config.http, seat.socket)
        clock = SystemClock()
        self._tls = self._create_tls(config, clock)
        self._reloader = Reloader(whole, load, self._configure, self._log, clock.wall, self._read_files)
        self._telemetry = Telemetry(self._log, clock.monotonic)
        self._sockets = SocketTelemetry(self._log, clock.monotonic)
        self._nats = NatsTelemetry()
        self._stream_telemetry = StreamTelemetry(self._log, clock.monotonic)
        self._watch = LinkWatch(self._nats, self._log, clock.monotonic)
        self._link = self._create_link(config)
        keys = KeyCache()
        self._key_telemetry = KeyTelemetry(keys, clock)
        self._rules = Rules(config, clock, __version__, keys)
        self._tracing = self._create_tracing(config, clock)
        tracer = EdgeTracer(self._tracing, clock) if self._tracing is not None else OFF
        nats = config.nats
        self._broker = NatsBroker(
            self._link,
            nats.partitions,
            nats.publish_timeout,
            config.rpc.timeout,
            clock,
            self._telemetry,
            self._soon,
            tracer,
        )
        self._broker.stored = StoredMessages(nats.partitions, stored(config))
        self._keys = JwksFetcher(keys, clock, self._key_telemetry, self._log)
        linger = max(SHORTEST_LINGER, round(config.channel.unsubscribe_linger / TICK))
        self._hub = Hub(self._broker, self._telemetry, clock, linger, _later)
        self._rpc_metrics = RpcClientMetrics()
        self._history = self._create_history(config, clock) if config.history.target else None
        self._positions: Positions | None = None
        if self._history is not None:
            self._positions = Positions(self._history, self._hub, self._rules, self._telemetry, random.random)
        self._dispatcher = Dispatcher(
            self._rules,
            self._hub,
            self._broker,
            self._keys,
            self._telemetry,
            Timers(_timing(config), random.random),
            Pacer(clock, _later),
            tracer,
        )
        self._streams = self._create_streams(config, clock, tracer)
        self._agreement = Agreement(self._link, self._streams, config, self._log)
        self._control = Control(self._dispatcher, self._broker, self._telemetry, self.reload)
        self._gate = self._create_gate()
        self._watch.bind(self._flush, self._check_mapping, lambda: self._link.last_error)
        self._ticker = Ticker(
            [
                self._dispatcher.tick,
                self._streams.tick,
                self._gate.tick,
                self._keys.tick,
                *([self._positions.tick] if self._positions is not None else ()),
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
        client = config.client
        origins = OriginPolicy(client.allowed_origins)
        self._gate.configure(limits_of(config, self._log), origins, client.token.cookie)
        self._gate.proxies = _proxies(config)
        self._broker.call_timeout = config.rpc.timeout
        self._broker.stored = StoredMessages(config.nats.partitions, stored(config))
        self._dispatcher.reconfigured(_timing(config))
        self._agreement.follow(config)
        logs.set_level(config.log.level)

    def _flush(self) -> None:
        """Pass on what one read from NATS brought."""
        try:
            self._streams.flush()
        finally:
            self._hub.flush()

    def _read_files(self, config: EdgeConfig) -> Callable[[], Sequence[str]]:
        """Read what the configuration only names; see `reload.Reloader`."""
        renew = self._tls.reading(config)

        def put_in_force() -> Sequence[str]:
            if self._history is not None:
                self._history.reload()
            return renew()

        return put_in_force

    def _create_tls(self, config: EdgeConfig, clock: Clock) -> PublicTls:
        try:
            return PublicTls(config.http.tls, self._log, clock.wall)
        except ConfigError as error:
            raise StartError(str(error)) from error

    def _create_link(self, config: EdgeConfig) -> NatsLink:
        try:
            return NatsLink(link_options(config.nats, self._node), self._watch)
        except LinkError as error:
            raise StartError(str(error)) from error

    def _create_tracing(self, config: EdgeConfig, clock: Clock) -> Tracer | None:
        resource = {"service.instance.id": self._node, "service.version": __version__}
        try:
            return create_tracer(config.tracing, resource, clock, self._log)
        except OSError as error:
            raise StartError(f"tracing.ca_file cannot be used ({error})") from error

    def _create_history(self, config: EdgeConfig, clock: Clock) -> GrpcHistory:
        # gRPC's library costs a quarter of a second and 21 MiB: only an edge that needs it loads it.
        from tidewire.edge.adapters.grpc_history import GrpcHistory, client_of  # noqa: PLC0415 - see above

        client = client_of(config.history, self._rpc_metrics, self._log, clock, self._tracing)
        return GrpcHistory(client, self._broker.parse_kept)

    def _create_streams(self, config: EdgeConfig, clock: Clock, tracer: EdgeTracing) -> StreamUpstream:
        telemetry = self._stream_telemetry
        terms = {each.name: terms_of(each) for each in config.storage.profiles}
        inbox = inbox_prefix(config.nats.user or ANONYMOUS)
        publisher = StreamPublisher(self._link, config.nats.partitions, inbox, terms, clock, telemetry)
        publisher.mapped = lambda: self._broker.mapped
        dispatcher = self._dispatcher
        streams = StreamUpstream(
            publisher, _lane_limits(config), clock, telemetry, tracer, dispatcher.pacer, dispatcher.perform
        )
        publisher.answered, publisher.found = streams.answered, streams.found
        dispatcher.store_with(streams.publish)
        return streams

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
        gate.proxies = _proxies(config)
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
        self._nats.register(registry, self._link)
        self._stream_telemetry.register(registry, self._streams.lanes)
        self._key_telemetry.register(registry)
        registry.add(cache_metrics(self._rules))
        registry.add(self._tls.metrics())
        registry.add(self._reloader.metrics())
        if self._tracing is not None:
            registry.add([self._tracing.spans])
        if self._positions is not None:
            registry.add(self._positions.gauges())
            registry.add(self._rpc_metrics.all())
        try:
            await self._listeners.open_internal(registry, lambda: self._unready)
            if self._history is not None:
                await self._history.start()
            await self._link.start()
            await self._prove_nats()
            await self._agreement.start()
            rescue(self._link, self._config.nats.partitions, self._watch.unmapped, self._watch.unmapped_lost)
            self._broker.take_orders(self._node, self._control.obey)
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
        await self._link.close()
        if self._tracing is not None:
            await self._tracing.close(self._log)

    # NATS

    async def _prove_nats(self) -> None:
        largest = needed_payload(self._config)
        if self._link.max_payload < largest:
            raise StartError(
                f"nats-server's max_payload is {self._link.max_payload} bytes: it must be at least {largest} "
                f"(twice websocket.message_size_limit, for data and connection info, and {HEADER_ROOM} for headers)"
            )
        found = await probe(self._link, self._config.nats.partitions)
        for _ in range(PROBES_AT_START - 1):
            if found is Mapping.UNKNOWN:
                found = await probe(self._link, self._config.nats.partitions)
        if found is not Mapping.RIGHT:
            said = (
                f"; NATS said: {self._link.last_error}"
                if found is Mapping.UNKNOWN and self._link.last_error
                else ""
            )
            raise StartError(
                f"{MAPPING_PROBLEMS[found]} (nats.partitions is {self._config.nats.partitions}){said}"
            )

    def _check_mapping(self) -> Coroutine[None, None, None]:
        """After a reconnect: until the node has proved its mapping, this edge treats NATS as away."""
        self._broker.mapped = False
        self._agreement.look()
        return self._prove_again()

    async def _prove_again(self) -> None:
        found = await probe(self._link, self._config.nats.partitions)
        while found is Mapping.UNKNOWN and self._link.state is LinkState.CONNECTED:
            await asyncio.sleep(PROBE_PAUSE)
            found = await probe(self._link, self._config.nats.partitions)
        self._broker.mapped = found is Mapping.RIGHT
        if self._broker.mapped and self._positions is not None:
            self._positions.sweep.all()
        if found in {Mapping.MISSING, Mapping.OTHER_PARTITIONS}:
            self._nats.mapping_failed()
            self._log.error(
                "nats.mapping_failed", problem=MAPPING_PROBLEMS[found], nats=self._link.server_name
            )
            self._link.reconnect("the node does not map tw.pub")


def needed_payload(config: EdgeConfig) -> int:
    """Return the least max_payload of a nats-server: a client's data, its connection info, and headers."""
    return 2 * config.websocket.message_size_limit + HEADER_ROOM


def _timing(config: EdgeConfig) -> Timing:
    client = config.client
    return Timing(client.ping_interval, client.pong_timeout, client.stale_close_delay)


def _lane_limits(config: EdgeConfig) -> LaneLimits:
    """A client is answered at a tick, and in time: what is due between two of them is due at the earlier one."""
    publish = config.client.publish
    return LaneLimits(
        float(config.nats.publish_timeout) - TICK,
        publish.unconfirmed_limit,
        publish.unconfirmed_max_size,
        publish.queue_max_size,
    )


def _proxies(config: EdgeConfig) -> TrustedProxies:
    return TrustedProxies(config.http.trusted_proxies, config.http.client_address_header)


def _later(seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, callback)
