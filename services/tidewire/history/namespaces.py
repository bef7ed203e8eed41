"""Which namespaces have history, in which streams, and which channels those streams may hold. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from tidewire.kernel.streams import stream_name
from tidewire.kernel.subjects import InvalidChannelError, channel_of, in_subject
from tidewire.options.stored import options_by_token, stored

if TYPE_CHECKING:
    from tidewire.options.stored import Stores

OUT = b"tw.out."
IN = b"tw.in."
BILLION = 1_000_000_000


class Namespace(NamedTuple):
    """A namespace with history. `oldest_first`: its stream loses publications of a channel in no other order, and survives."""

    profile: str
    size: int
    ttl_ns: int
    oldest_first: bool
    own_ttl: bool
    """Whether publications may end by themselves: then memory cannot know which are left."""


class Place(NamedTuple):
    """Where a channel is stored."""

    namespace: Namespace
    key: bytes
    stream: str


class Namespaces:
    """All of a configuration, and where their channels are."""

    def __init__(self, config: Stores, partitions: int, served: Collection[int]) -> None:
        self._partitions = partitions
        self._served = frozenset(served)
        self._by_token = {token.encode(): _namespace(config, token) for token in stored(config)}
        self.streams = {
            stream_name(namespace.profile, partition): (namespace.profile, partition)
            for namespace in self._by_token.values()
            for partition in sorted(self._served)
        }
        """The streams that are followed, each with its profile and partition."""

    def kept_by(self, profile: str) -> frozenset[bytes]:
        """Return the namespaces that a profile keeps, as subject tokens."""
        return frozenset(token for token, each in self._by_token.items() if each.profile == profile)

    def of_key(self, key: bytes) -> Namespace | None:
        """Return the namespace of a subject in a stream, if it has history."""
        parts = key.split(b".", 4)
        return self._by_token.get(parts[3]) if len(parts) == 5 else None

    def is_channel(self, key: bytes) -> bool:
        """Whether a subject is that of a channel, on its own partition: no other publication can be read by anybody."""
        return channel_of(key, self._partitions) is not None

    def place(self, channel: str) -> Place | None:
        """Return where a channel is stored; None where it has no history. `served` says whether it is here."""
        try:
            key = in_subject(channel, self._partitions)
        except InvalidChannelError:
            return None
        namespace = self.of_key(key)
        if namespace is None:
            return None
        return Place(namespace, key, stream_name(namespace.profile, int(key.split(b".", 3)[2])))


def token_of(key: bytes) -> bytes:
    """Return the token of the namespace in a channel's subject."""
    return key.split(b".", 4)[3]


def _namespace(config: Stores, token: str) -> Namespace:
    options = options_by_token(config.channel)[token]
    profile = config.storage.find(options.storage_profile)
    if profile is None:
        raise AssertionError("a namespace's profile was checked with the configuration")
    ttl_ns = int(options.history_ttl * BILLION)
    return Namespace(profile.name, options.history_size, ttl_ns, profile.recoverable, profile.message_ttl)
