"""Settings of a service whose processes serve all partitions of the channels, or each a share of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from msgspec import Meta, field

from tidewire.kernel.config import RESTART, Problem
from tidewire.options.channel_options import ChannelConfig
from tidewire.options.nats_options import NatsConfig
from tidewire.platform.service_options import ProcessConfig, ServiceConfig


class PartitionedServiceConfig(ServiceConfig, frozen=True, kw_only=True):
    """The section of such a service."""

    partitions: Annotated[
        tuple[int, ...],
        Meta(
            max_length=1024,
            description="The partitions that this process serves. Empty: all. For others it answers UNAVAILABLE, so that edges "
            "ask another replica; how many processes name a partition is the number of its copies.",
            extra=RESTART,
        ),
    ] = ()


class PartitionedConfig(ProcessConfig, frozen=True, kw_only=True):
    """Everything that a process of such a service is told."""

    nats: Annotated[NatsConfig, Meta(description="The connection to NATS.")] = field(
        default_factory=NatsConfig
    )
    channel: Annotated[ChannelConfig, Meta(description="Channels and namespaces.")] = field(
        default_factory=ChannelConfig
    )

    @property
    def served(self) -> tuple[int, ...]:
        """The partitions that this process serves."""
        own: PartitionedServiceConfig = getattr(self, self.section)
        return own.partitions or tuple(range(self.nats.partitions))


def partitions_exist(section: str) -> Callable[[PartitionedConfig], Iterator[Problem]]:
    """Return the check that the share in a section is of the partitions that there are."""

    def check(config: PartitionedConfig) -> Iterator[Problem]:
        seen = set()
        for index, partition in enumerate(getattr(config, section).partitions):
            path = f"{section}.partitions[{index}]"
            if not 0 <= partition < config.nats.partitions:
                yield Problem(
                    path, f"there is no partition {partition}: nats.partitions is {config.nats.partitions}"
                )
            elif partition in seen:
                yield Problem(path, f"{partition} is there already")
            seen.add(partition)

    return check
