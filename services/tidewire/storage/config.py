"""What a migration reads of the configuration: channels, their storage and NATS. It needs no key of the edges."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from tidewire.kernel.config import Section
from tidewire.options.channel_options import ChannelConfig
from tidewire.options.nats_options import NatsConfig
from tidewire.options.sections import SECTIONS
from tidewire.options.storage_options import StorageConfig
from tidewire.options.stored import histories_fit


class MigrateConfig(Section, frozen=True, kw_only=True):
    """The part of the one configuration file that says what is stored where."""

    checks = (histories_fit,)
    others = SECTIONS - {"channel", "nats", "storage"}

    nats: Annotated[NatsConfig, Meta(description="The connection to NATS.")] = field(
        default_factory=NatsConfig
    )
    storage: Annotated[StorageConfig, Meta(description="Where channels with history are stored.")] = field(
        default_factory=StorageConfig
    )
    channel: Annotated[ChannelConfig, Meta(description="Channels and namespaces.")] = field(
        default_factory=ChannelConfig
    )
