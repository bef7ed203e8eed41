"""The configuration of an edge: what each setting means, and the rules between them.

The descriptions here are the configuration reference (docs/configuration.md) and the JSON Schema. Names are
Centrifugo's (v6) where it has the setting.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta, field

from tidewire.edge.client_options import ClientConfig
from tidewire.edge.dev_options import DevConfig, DevEdge
from tidewire.edge.history_options import HistoryConfig
from tidewire.edge.http_options import HttpConfig, TlsConfig
from tidewire.edge.key_options import HmacKey, JwksConfig, PublicKeyConfig
from tidewire.edge.presence_options import PresenceConfig
from tidewire.edge.publish_options import PublishConfig
from tidewire.edge.rpc_options import RpcConfig, RpcMethod
from tidewire.edge.token_options import SubscriptionTokenConfig, TokenConfig, TrustConfig
from tidewire.kernel.config import RESTART, Duration, Problem, Section, duration
from tidewire.kernel.presence_wire import CHUNK_SIZE
from tidewire.kernel.subjects import EVERY_NODE, NO_NAMESPACE
from tidewire.options import centrifugo_names
from tidewire.options.channel_options import ChannelConfig, ChannelOptions, Namespace
from tidewire.options.nats_options import NatsConfig, NatsTls
from tidewire.options.rate_limit_options import RateLimitsConfig
from tidewire.options.storage_options import StorageConfig
from tidewire.options.stored import histories_fit, stored
from tidewire.platform.log_options import LogConfig
from tidewire.platform.tracing_options import TracingConfig

__all__ = [
    "ChannelConfig",
    "ChannelOptions",
    "ClientConfig",
    "DevConfig",
    "DevEdge",
    "DrainConfig",
    "EdgeConfig",
    "HistoryConfig",
    "HmacKey",
    "HttpConfig",
    "JwksConfig",
    "LogConfig",
    "Namespace",
    "NatsConfig",
    "NatsTls",
    "PresenceConfig",
    "PublicKeyConfig",
    "PublishConfig",
    "RpcConfig",
    "RpcMethod",
    "SendConfig",
    "SubscriptionTokenConfig",
    "TlsConfig",
    "TokenConfig",
    "TracingConfig",
    "TrustConfig",
    "WebsocketConfig",
    "needed_payload",
]

HEADER_ROOM: Final = 4096
"""Bytes of a NATS message beside data and connection info."""
OTHERS: Final = frozenset({"history_service", "presence_service", "rate_limit_service"})
"""Settings of other processes in the same file."""


class WebsocketConfig(Section, frozen=True, kw_only=True):
    """The WebSocket transport, at `/connection/websocket`."""

    hints = centrifugo_names.WEBSOCKET
    reloadable = True

    message_size_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Longest message of a client in bytes. A longer one closes the connection with 1009. The edge "
            "refuses to start when NATS's `max_payload` could not carry it.",
            extra=RESTART,
        ),
    ] = 65536
    compression: Annotated[
        bool,
        Meta(
            description="Whether permessage-deflate (RFC 7692) is agreed on with clients that offer it, without context "
            "takeover: no connection keeps a window. It saves bytes and costs CPU; the limit on a message counts "
            "before and after inflating."
        ),
    ] = False
    compression_min_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Shorter messages in bytes are sent as they are. With 512, JSON is about halved.",
        ),
    ] = 512
    close_timeout: Annotated[
        Duration,
        Meta(
            description="How long a client may take to answer the edge's close frame before its connection is cut.",
            extra={"at_least": "100ms", "at_most": "1m"},
        ),
    ] = duration("5s")


class SendConfig(Section, frozen=True, kw_only=True):
    """One-way messages of clients, passed on to NATS at `tw.ev.message`."""

    reloadable = True

    enabled: Annotated[
        bool,
        Meta(
            description="Whether they are passed on. Otherwise a client that sends one is closed with 3508."
        ),
    ] = False
    allow_for_anonymous: Annotated[
        bool, Meta(description="Whether clients without a user id may send, too.")
    ] = False


class DrainConfig(Section, frozen=True, kw_only=True):
    """What an edge does between SIGTERM and its end."""

    reloadable = True

    delay: Annotated[
        Duration,
        Meta(
            description="How long it goes on accepting connections while `/ready` already says no, so that balancers "
            "can take it out.",
            extra={"at_most": "10m"},
        ),
    ] = duration("2s")
    window: Annotated[
        Duration,
        Meta(
            description="In what time its clients are then told to reconnect (3001) and arrive elsewhere, spread so that they do not "
            "come all at once. An orchestrator must allow `delay` plus `window` and some seconds.",
            extra={"at_most": "1h"},
        ),
    ] = duration("20s")


def personal_namespace_exists(config: EdgeConfig) -> Iterator[Problem]:
    """Otherwise every connect would fail."""
    name = config.client.subscribe_to_user_personal_channel.namespace
    if name and name not in {namespace.name for namespace in config.channel.namespaces}:
        yield Problem(
            "client.subscribe_to_user_personal_channel.namespace", f"no namespace is called {name!r}"
        )


def limited_namespaces_exist(config: EdgeConfig) -> Iterator[Problem]:
    """A rule for a name that is misspelt would limit nothing."""
    known = {NO_NAMESPACE, *(namespace.name for namespace in config.channel.namespaces)}
    for index, rule in enumerate(config.rate_limits.rules):
        for place, name in enumerate(rule.namespaces):
            if name not in known:
                path = f"rate_limits.rules[{index}].namespaces[{place}]"
                yield Problem(path, f"no namespace is called {name!r}")


def node_is_one(config: EdgeConfig) -> Iterator[Problem]:
    """It would hear orders for all edges twice, and its own would reach everybody."""
    if config.node_name == EVERY_NODE:
        yield Problem("node_name", f"{EVERY_NODE} stands for every edge")


def history_can_be_read(config: EdgeConfig) -> Iterator[Problem]:
    """Positions and what was missed come from the history service only."""
    if stored(config) and not config.history.target:
        yield Problem(
            "history.target", "is needed for namespaces with history: where the history service listens"
        )


def presence_can_be_asked(config: EdgeConfig) -> Iterator[Problem]:
    """Who is in a channel is known to the presence service only."""
    channel = config.channel
    if config.presence.target:
        return
    if channel.without_namespace.presence or any(each.presence for each in channel.namespaces):
        yield Problem(
            "presence.target", "is needed for namespaces with presence: where the presence service listens"
        )


class EdgeConfig(Section, frozen=True, kw_only=True):
    """Everything that an edge is told."""

    checks = (
        personal_namespace_exists,
        limited_namespaces_exist,
        node_is_one,
        histories_fit,
        history_can_be_read,
        presence_can_be_asked,
    )
    others = OTHERS
    hints = centrifugo_names.TOP

    node_name: Annotated[
        str,
        Meta(
            pattern="^[-a-zA-Z0-9_]*$",
            max_length=64,
            description="Name of this edge in logs and NATS, different for every edge. Empty: the host name and a "
            "random suffix.",
            extra={"hint": "a name holds letters, digits, - and _ only"},
        ),
    ] = ""
    workers: Annotated[
        int,
        Meta(
            ge=0,
            le=256,
            description="Number of edge processes on the one public port; 0 = as many as there are processors that this "
            "process may use (a control group's quota counts). With more than 1, which needs Linux, each is an edge of its own "
            "called `<node_name>-<number>`, and a further process answers for all of them on the internal port.",
        ),
    ] = 1
    log: Annotated[LogConfig, Meta(description="Logs.")] = field(default_factory=LogConfig)
    tracing: Annotated[TracingConfig, Meta(description="Traces.")] = field(default_factory=TracingConfig)
    http: Annotated[HttpConfig, Meta(description="Listeners.")] = field(default_factory=HttpConfig)
    nats: Annotated[NatsConfig, Meta(description="The connection to NATS.")] = field(
        default_factory=NatsConfig
    )
    client: Annotated[ClientConfig, Meta(description="Client connections.")] = field(
        default_factory=ClientConfig
    )
    storage: Annotated[StorageConfig, Meta(description="Where channels with history are stored.")] = field(
        default_factory=StorageConfig
    )
    history: Annotated[HistoryConfig, Meta(description="The way to the history service.")] = field(
        default_factory=HistoryConfig
    )
    presence: Annotated[PresenceConfig, Meta(description="The way to the presence service.")] = field(
        default_factory=PresenceConfig
    )
    rate_limits: Annotated[
        RateLimitsConfig,
        Meta(description="Limits over all edges together, which the rate-limit service counts."),
    ] = field(default_factory=RateLimitsConfig)
    websocket: Annotated[WebsocketConfig, Meta(description="The WebSocket transport.")] = field(
        default_factory=WebsocketConfig
    )
    channel: Annotated[ChannelConfig, Meta(description="Channels and namespaces.")] = field(
        default_factory=ChannelConfig
    )
    rpc: Annotated[RpcConfig, Meta(description="Calls of clients.")] = field(default_factory=RpcConfig)
    send: Annotated[SendConfig, Meta(description="One-way messages of clients.")] = field(
        default_factory=SendConfig
    )
    drain: Annotated[DrainConfig, Meta(description="The end of an edge.")] = field(
        default_factory=DrainConfig
    )
    dev: Annotated[DevConfig, Meta(description="The dev mesh.")] = field(default_factory=DevConfig)


def needed_payload(config: EdgeConfig) -> int:
    """Return the least max_payload of a nats-server: a client's data, its connection info, and headers; or what presence sends."""
    of_clients = 2 * config.websocket.message_size_limit + HEADER_ROOM
    return max(of_clients, CHUNK_SIZE + HEADER_ROOM) if config.presence.target else of_clients
