"""The configuration of the history service: its own section, and what it shares with the edges of the same file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Duration, Problem, Section, duration
from tidewire.options.channel_options import ChannelConfig
from tidewire.options.log_options import LogConfig
from tidewire.options.nats_options import NatsConfig
from tidewire.options.storage_options import StorageConfig
from tidewire.options.stored import histories_fit
from tidewire.platform.rpc_options import RpcConfig
from tidewire.platform.tracing_options import TracingConfig

OTHERS: Final = frozenset(
    {
        "client",
        "dev",
        "drain",
        "history",
        "http",
        "node_name",
        "presence",
        "presence_service",
        "rate_limit_service",
        "rate_limits",
        "rpc",
        "send",
        "websocket",
        "workers",
    }
)
"""Settings of other processes in the same file."""


class HistoryServiceConfig(Section, frozen=True, kw_only=True):
    """The history service (`tidewire history`)."""

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
    ] = 9100
    rpc: Annotated[RpcConfig, Meta(description="The gRPC server that edges call.")] = field(
        default_factory=RpcConfig
    )
    partitions: Annotated[
        tuple[int, ...],
        Meta(
            max_length=1024,
            description="The partitions that this process serves. Empty: all. For others it answers UNAVAILABLE, so that edges "
            "ask another replica.",
            extra=RESTART,
        ),
    ] = ()
    cache_size: Annotated[
        int,
        Meta(
            ge=1 << 20,
            le=1 << 40,
            description="Most bytes of what is held in memory of all channels, about. Beyond, the least recently used channels "
            "lose their publications, and then their place in memory: reads of them ask the stream.",
        ),
    ] = 268435456
    read_timeout: Annotated[
        Duration,
        Meta(
            description="How long a read may wait for NATS before it is UNAVAILABLE.",
            extra={"at_least": "100ms", "at_most": "1m"},
        ),
    ] = duration("3s")
    max_stream_requests: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="Most requests to streams at once; further ones wait for their turn.",
            extra=RESTART,
        ),
    ] = 128


def partitions_exist(config: HistoryConfig) -> Iterator[Problem]:
    """A share is of the partitions that there are."""
    seen = set()
    for index, partition in enumerate(config.history_service.partitions):
        path = f"history_service.partitions[{index}]"
        if not 0 <= partition < config.nats.partitions:
            yield Problem(
                path, f"there is no partition {partition}: nats.partitions is {config.nats.partitions}"
            )
        elif partition in seen:
            yield Problem(path, f"{partition} is there already")
        seen.add(partition)


class HistoryConfig(Section, frozen=True, kw_only=True):
    """Everything that the history service is told."""

    checks = (histories_fit, partitions_exist)
    others = OTHERS

    log: Annotated[LogConfig, Meta(description="Logs.")] = field(default_factory=LogConfig)
    tracing: Annotated[TracingConfig, Meta(description="Traces.")] = field(default_factory=TracingConfig)
    nats: Annotated[NatsConfig, Meta(description="The connection to NATS.")] = field(
        default_factory=NatsConfig
    )
    storage: Annotated[StorageConfig, Meta(description="Where channels with history are stored.")] = field(
        default_factory=StorageConfig
    )
    channel: Annotated[ChannelConfig, Meta(description="Channels and namespaces.")] = field(
        default_factory=ChannelConfig
    )
    history_service: Annotated[HistoryServiceConfig, Meta(description="The history service.")] = field(
        default_factory=HistoryServiceConfig
    )

    @property
    def served(self) -> tuple[int, ...]:
        """The partitions that this process serves."""
        return self.history_service.partitions or tuple(range(self.nats.partitions))
