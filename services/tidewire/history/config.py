"""The configuration of the history service: its own section, and what it shares with the edges of the same file."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Duration, duration
from tidewire.options.partitioned import PartitionedConfig, PartitionedServiceConfig, partitions_exist
from tidewire.options.sections import SECTIONS
from tidewire.options.storage_options import StorageConfig
from tidewire.options.stored import histories_fit


class HistoryServiceConfig(PartitionedServiceConfig, frozen=True, kw_only=True):
    """The history service (`tidewire history`)."""

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


class HistoryConfig(PartitionedConfig, frozen=True, kw_only=True):
    """Everything that the history service is told."""

    service = "history"
    section = "history_service"
    checks = (histories_fit, partitions_exist(section))
    others = SECTIONS - {"channel", "history_service", "log", "nats", "storage", "tracing"}

    storage: Annotated[StorageConfig, Meta(description="Where channels with history are stored.")] = field(
        default_factory=StorageConfig
    )
    history_service: Annotated[HistoryServiceConfig, Meta(description="The history service.")] = field(
        default_factory=HistoryServiceConfig
    )
