"""Makes those parts of an edge that take more of the configuration than one setting. Raises StartError."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tidewire.edge.adapters.nats_broker import NatsBroker
from tidewire.edge.adapters.stored_messages import StoredMessages
from tidewire.edge.adapters.stream_publisher import StreamPublisher, terms_of
from tidewire.edge.announcer import Announcer
from tidewire.edge.connection_limits import ConnectionLimits
from tidewire.edge.lane import LaneLimits
from tidewire.edge.limits import Limits
from tidewire.edge.lobby import Lobby
from tidewire.edge.policies.client_address import TrustedProxies
from tidewire.edge.presence import Presence, is_here
from tidewire.edge.public_tls import PublicTls
from tidewire.edge.rate_limiting import RateLimiting
from tidewire.edge.snapshots import Snapshots
from tidewire.edge.stream_upstream import StreamUpstream
from tidewire.edge.timers import TICK, Timing
from tidewire.edge.waiting import Waiters
from tidewire.kernel.config import ConfigError
from tidewire.kernel.nats_config import inbox_prefix
from tidewire.options.nats_options import ANONYMOUS
from tidewire.options.stored import stored
from tidewire.platform.lifecycle import StartError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.adapters.grpc_history import GrpcHistory
    from tidewire.edge.adapters.grpc_presence import GrpcPresence
    from tidewire.edge.adapters.nats_presence import NatsPresence
    from tidewire.edge.config import EdgeConfig
    from tidewire.edge.dispatcher import Dispatcher
    from tidewire.edge.hub import Hub
    from tidewire.edge.pacer import Later
    from tidewire.edge.ports import Done, Metrics
    from tidewire.edge.ports import Tracer as EdgeTracing
    from tidewire.edge.presence_telemetry import PresenceTelemetry
    from tidewire.edge.rules import Rules
    from tidewire.edge.stream_telemetry import StreamTelemetry
    from tidewire.kernel.clock import Clock
    from tidewire.kernel.errors import ReplyError
    from tidewire.platform.nats_link import NatsLink
    from tidewire.platform.rpc_telemetry import RpcClientMetrics
    from tidewire.platform.tracing import Tracer


def public_tls(config: EdgeConfig, log: FilteringBoundLogger, clock: Clock) -> PublicTls:
    """Return what holds the public port's certificate."""
    try:
        return PublicTls(config.http.tls, log, clock.wall)
    except ConfigError as error:
        raise StartError(str(error)) from error


def broker(
    config: EdgeConfig,
    link: NatsLink,
    clock: Clock,
    metrics: Metrics,
    soon: Callable[[Done, ReplyError], None],
    tracer: EdgeTracing,
) -> NatsBroker:
    """Return the way to channels without history, and what is heard of all."""
    nats = config.nats
    made = NatsBroker(
        link, nats.partitions, nats.publish_timeout, config.rpc.timeout, clock, metrics, soon, tracer
    )
    made.stored = StoredMessages(nats.partitions, stored(config))
    return made


def history(
    config: EdgeConfig,
    broker: NatsBroker,
    metrics: RpcClientMetrics,
    log: FilteringBoundLogger,
    clock: Clock,
    tracer: Tracer | None,
    node: str,
) -> GrpcHistory:
    """Return the way to the history service, not connected yet."""
    # gRPC's library costs a quarter of a second and 21 MiB: only an edge that needs it loads it.
    from tidewire.edge.adapters.grpc_history import GrpcHistory, client_of  # noqa: PLC0415 - see above

    client = client_of(config.history, metrics, log, clock, tracer, node)
    return GrpcHistory(client, broker.parse_kept, log, clock.monotonic)


def presence(
    wire: NatsPresence,
    hub: Hub,
    dispatcher: Dispatcher,
    rules: Rules,
    service: GrpcPresence | None,
    telemetry: PresenceTelemetry,
    clock: Clock,
    later: Later,
) -> Presence:
    """Return what the dispatcher hands on of presence, from now on."""
    here = partial(is_here, dispatcher.users)
    lobby = Lobby(wire, rules.leaves_held, here, dispatcher.slow, clock, later, telemetry)
    announcer: Announcer | None = None
    if rules.announces:
        announcer = Announcer(wire, wire.partitions, clock, later, random.random, telemetry)
        snapshots = Snapshots(wire.edge, wire.partitions, announcer, hub.channels, wire, later, telemetry)
        wire.take_questions(announcer, snapshots)
    made = Presence(lobby, announcer, service, wire, telemetry)
    dispatcher.attend_with(made)
    return made


def presence_service(
    config: EdgeConfig,
    metrics: RpcClientMetrics,
    log: FilteringBoundLogger,
    clock: Clock,
    tracer: Tracer | None,
) -> GrpcPresence | None:
    """Return the way to the presence service, not connected yet; None where there is none."""
    if not config.presence.target:
        return None
    from tidewire.edge.adapters import grpc_presence  # noqa: PLC0415 - as for history

    client = grpc_presence.client_of(config.presence, metrics, log, clock, tracer)
    return grpc_presence.GrpcPresence(client, log, clock.monotonic)


def rate_limits(
    config: EdgeConfig,
    rules: Rules,
    node: str,
    metrics: RpcClientMetrics,
    log: FilteringBoundLogger,
    clock: Clock,
    tracer: Tracer | None,
    later: Callable[[float, Callable[[], None]], object],
) -> RateLimiting | None:
    """Return the way to the rate-limit service, not connected yet, and what decides by it; None: there is none."""
    if not config.rate_limits.replicas:
        return None
    from tidewire.edge.adapters.grpc_ratelimit import GrpcRateLimit  # noqa: PLC0415 - as above

    service = GrpcRateLimit(config.rate_limits, node, metrics, log, clock, tracer)
    waiters = Waiters(clock.monotonic, later)
    places = ConnectionLimits(service.ask_place, waiters)
    service.all_slots = places.slots
    made = RateLimiting(service, Limits(service, waiters), places, clock.monotonic)
    made.configure(config.rate_limits, rules)
    return made


def streams(
    config: EdgeConfig,
    link: NatsLink,
    broker: NatsBroker,
    dispatcher: Dispatcher,
    telemetry: StreamTelemetry,
    tracer: EdgeTracing,
    clock: Clock,
    later: Later,
) -> StreamUpstream:
    """Return what publishes to the streams; the dispatcher gives it what clients publish from now on."""
    terms = {each.name: terms_of(each) for each in config.storage.profiles}
    inbox = inbox_prefix(config.nats.user or ANONYMOUS)
    publisher = StreamPublisher(link, config.nats.partitions, inbox, terms, clock, telemetry)
    publisher.mapped = lambda: broker.mapped
    upstream = StreamUpstream(
        publisher,
        _lane_limits(config),
        clock,
        telemetry,
        tracer,
        dispatcher.pacer,
        later,
        dispatcher.perform,
    )
    publisher.stored, publisher.answered, publisher.found = (
        upstream.stored.append,
        upstream.answered,
        upstream.found,
    )
    dispatcher.store_with(upstream.publish)
    return upstream


def _lane_limits(config: EdgeConfig) -> LaneLimits:
    """A client is answered at a tick, and in time: what is due between two of them is due at the earlier one."""
    publish = config.client.publish
    return LaneLimits(
        float(config.nats.publish_timeout) - TICK,
        publish.unconfirmed_limit,
        publish.unconfirmed_max_size,
        publish.queue_max_size,
    )


def timing(config: EdgeConfig) -> Timing:
    """Return when connections are looked after."""
    client = config.client
    return Timing(client.ping_interval, client.pong_timeout, client.stale_close_delay)


def proxies(config: EdgeConfig) -> TrustedProxies:
    """Return who is believed about clients' addresses."""
    return TrustedProxies(config.http.trusted_proxies, config.http.client_address_header)
