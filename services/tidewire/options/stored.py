"""Which namespaces are stored where: what namespaces ask of the profiles, and whether the profiles can give it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from tidewire.kernel.config import Problem
from tidewire.kernel.subjects import NO_NAMESPACE
from tidewire.options.channel_options import POSITIONED, ChannelConfig, ChannelOptions
from tidewire.options.storage_options import StorageConfig


class Stores(Protocol):
    """A configuration with channels and their storage."""

    @property
    def channel(self) -> ChannelConfig:
        """The namespaces."""

    @property
    def storage(self) -> StorageConfig:
        """The profiles."""


def options_by_token(channel: ChannelConfig) -> dict[str, ChannelOptions]:
    """Return the options of each namespace by its subject token; `_`: of channels without one."""
    return {NO_NAMESPACE: channel.without_namespace, **{each.name: each for each in channel.namespaces}}


def stored(config: Stores) -> dict[str, str]:
    """Return the namespaces with history, by their subject token, each with the name of its profile."""
    return {
        token: options.storage_profile
        for token, options in options_by_token(config.channel).items()
        if options.has_history
    }


def histories_fit(config: Stores) -> Iterator[Problem]:
    """A namespace can be promised no more than its profile keeps."""
    yield from _problems("channel.without_namespace", config.channel.without_namespace, config.storage)
    for index, namespace in enumerate(config.channel.namespaces):
        yield from _problems(f"channel.namespaces[{index}]", namespace, config.storage)


def _problems(path: str, options: ChannelOptions, storage: StorageConfig) -> Iterator[Problem]:
    if not options.has_history:
        return
    profile = storage.find(options.storage_profile)
    if profile is None:
        yield Problem(
            f"{path}.storage_profile", f"there is no profile {options.storage_profile!r} in storage.profiles"
        )
        return
    if options.history_size > profile.max_messages:
        yield Problem(
            f"{path}.history_size",
            f"is over the {profile.max_messages} publications that profile {profile.name!r} keeps (max_messages)",
        )
    if options.history_ttl > profile.max_age:
        yield Problem(
            f"{path}.history_ttl",
            f"is over the time that profile {profile.name!r} keeps publications (max_age)",
        )
    if profile.recoverable:
        return
    why = (
        "is in memory" if profile.storage == "memory" else "lets publications end by themselves (message_ttl)"
    )
    for name in POSITIONED:
        if getattr(options, name) and not (
            name.endswith("recovery") and options.force_recovery_mode == "cache"
        ):
            yield Problem(f"{path}.{name}", f"cannot be had where profile {profile.name!r} {why}")
