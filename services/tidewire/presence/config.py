"""The configuration of the presence service: its own section, and what it shares with the edges of the same file."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Duration, duration
from tidewire.options.partitioned import PartitionedConfig, PartitionedServiceConfig, partitions_exist
from tidewire.options.sections import SECTIONS
from tidewire.platform.rpc_options import HealthPort, RpcConfig, RpcPort
from tidewire.platform.service_options import InternalPort


class PresenceRpcConfig(RpcConfig, frozen=True, kw_only=True):
    """The gRPC server of a service, and its health port for probes."""

    port: RpcPort = 9543
    health_port: HealthPort = 9544


class PresenceServiceConfig(PartitionedServiceConfig, frozen=True, kw_only=True):
    """The presence service (`tidewire presence`)."""

    internal_port: InternalPort = 9110
    rpc: Annotated[PresenceRpcConfig, Meta(description="The gRPC server that edges call.")] = field(
        default_factory=PresenceRpcConfig
    )
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


class PresenceConfig(PartitionedConfig, frozen=True, kw_only=True):
    """Everything that the presence service is told."""

    service = "presence"
    section = "presence_service"
    checks = (partitions_exist(section),)
    others = SECTIONS - {"channel", "log", "nats", "presence_service", "tracing"}

    presence_service: Annotated[PresenceServiceConfig, Meta(description="The presence service.")] = field(
        default_factory=PresenceServiceConfig
    )
