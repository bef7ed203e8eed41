"""The configuration of the presence service: its own section, and what it shares with the edges of the same file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Duration, Problem, Section, duration
from tidewire.options.channel_options import ChannelConfig
from tidewire.options.log_options import LogConfig
from tidewire.options.nats_options import NatsConfig
from tidewire.platform.rpc_options import RpcConfig
from tidewire.platform.tracing_options import TracingConfig

OTHERS: Final = frozenset(
    {
        "client",
        "dev",
        "drain",
        "history",
        "history_service",
        "http",
        "node_name",
        "presence",
        "rate_limit_service",
        "rate_limits",
        "rpc",
        "send",
        "storage",
        "websocket",
        "workers",
    }
)
"""Settings of other processes in the same file."""


class PresenceRpcConfig(RpcConfig, frozen=True, kw_only=True):
    """The gRPC server of a service, and its health port for probes."""

    port: Annotated[int, Meta(ge=0, le=65535, description="Port; 0 = any free port.")] = 9543
    health_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Port that speaks `grpc.health.v1.Health` without TLS and nothing else, for probes that have no "
            "certificate; 0 = any free port.",
        ),
    ] = 9544


class PresenceServiceConfig(Section, frozen=True, kw_only=True):
    """The presence service (`tidewire presence`)."""

    reloadable = True

    node_name: Annotated[
        str,
        Meta(
            pattern="^[-a-zA-Z0-9_]*$",
            max_length=64,
            description="Name of this process in logs and NATS. Empty: the host name and a random suffix.",
            extra={"hint": "a name holds letters, digits, - and _ only", **RESTART},
        ),
    ] = ""
    internal_address: Annotated[
        str,
        Meta(
            min_length=1, description="IP address of the internal listener (probes, metrics).", extra=RESTART
        ),
    ] = "127.0.0.1"
    internal_port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Port of the internal listener: `/live`, `/ready`, `/metrics`; 0 = any free port.",
            extra=RESTART,
        ),
    ] = 9110
    rpc: Annotated[PresenceRpcConfig, Meta(description="The gRPC server that edges call.")] = field(
        default_factory=PresenceRpcConfig
    )
    partitions: Annotated[
        tuple[int, ...],
        Meta(
            max_length=1024,
            description="The partitions that this process serves. Empty: all. For others it answers UNAVAILABLE, so that edges "
            "ask another replica; how many processes name a partition is the number of its copies.",
            extra=RESTART,
        ),
    ] = ()
    listening_time: Annotated[
        Duration,
        Meta(
            description="How long a process that starts listens before it answers, so that it knows every edge. Edges give a "
            "sign of life every two seconds, and when a replica starts; with less than two of these, one whose words come late is "
            "missing in the first answers.",
            extra={"at_least": "500ms", "at_most": "1m", **RESTART},
        ),
    ] = duration("4500ms")
    max_entries: Annotated[
        int,
        Meta(
            ge=1_000,
            le=1_000_000_000,
            description="Most entries that are held: members of channels, connections of users, occupied channels of edges. A "
            "member takes less than 400 bytes. They are counted every second. Beyond, what changes is UNAVAILABLE at this process until there is room again.",
        ),
    ] = 10_000_000
    max_seen_users: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000_000,
            description="Most users of whom it is kept when they were last connected; each takes about 200 bytes. It is kept for "
            "24 h and in memory only: `known_since_ms` of an answer says since when nothing is forgotten.",
        ),
    ] = 1_000_000


def partitions_exist(config: PresenceConfig) -> Iterator[Problem]:
    """A share is of the partitions that there are."""
    seen = set()
    for index, partition in enumerate(config.presence_service.partitions):
        path = f"presence_service.partitions[{index}]"
        if not 0 <= partition < config.nats.partitions:
            yield Problem(
                path, f"there is no partition {partition}: nats.partitions is {config.nats.partitions}"
            )
        elif partition in seen:
            yield Problem(path, f"{partition} is there already")
        seen.add(partition)


class PresenceConfig(Section, frozen=True, kw_only=True):
    """Everything that the presence service is told."""

    checks = (partitions_exist,)
    others = OTHERS

    log: Annotated[LogConfig, Meta(description="Logs.")] = field(default_factory=LogConfig)
    tracing: Annotated[TracingConfig, Meta(description="Traces.")] = field(default_factory=TracingConfig)
    nats: Annotated[NatsConfig, Meta(description="The connection to NATS.")] = field(
        default_factory=NatsConfig
    )
    channel: Annotated[ChannelConfig, Meta(description="Channels and namespaces.")] = field(
        default_factory=ChannelConfig
    )
    presence_service: Annotated[PresenceServiceConfig, Meta(description="The presence service.")] = field(
        default_factory=PresenceServiceConfig
    )

    @property
    def served(self) -> tuple[int, ...]:
        """The partitions that this process serves."""
        return self.presence_service.partitions or tuple(range(self.nats.partitions))
