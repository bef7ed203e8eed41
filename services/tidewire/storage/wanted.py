"""The streams that a configuration asks for, as JetStream's configurations. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

import msgspec

from tidewire.kernel.meta import LAYOUT_SUBJECT
from tidewire.kernel.streams import (
    LAYOUT,
    META_STREAM,
    META_SUBJECT,
    captured,
    republish,
    stream_name,
    vacant,
)
from tidewire.options.nats_options import NatsConfig
from tidewire.options.storage_options import StorageProfile
from tidewire.options.stored import Stores, stored

StreamConfig = dict[str, Any]
"""A stream's configuration as JetStream's API has it: times in nanoseconds, -1 = no limit."""

LAYOUT_KEY: Final = "tw_layout"
_NANOSECONDS: Final = 1_000_000_000


class Deployment(Stores, Protocol):
    """A configuration that says what is stored where."""

    @property
    def nats(self) -> NatsConfig:
        """NATS, with the number of partitions."""


class Wanted(msgspec.Struct, frozen=True):
    """What a configuration asks for: the profiles, and the namespaces with history, by subject token."""

    partitions: int
    namespaces: dict[str, str]
    profiles: dict[str, StorageProfile]

    @property
    def replicas(self) -> int:
        """Of what all depends on: as many as the safest profile in use has."""
        return max((self.profiles[name].replicas for name in self.namespaces.values()), default=1)

    @property
    def streams(self) -> dict[str, StreamConfig]:
        """The streams by name: one for each partition of each profile that has namespaces."""
        return {
            stream_name(name, partition): stream_config(self.profiles[name], partition, self.tokens(name))
            for name in sorted(set(self.namespaces.values()))
            for partition in range(self.partitions)
        }

    def tokens(self, profile: str) -> frozenset[str]:
        """Return the namespaces of a profile."""
        return frozenset(token for token, name in self.namespaces.items() if name == profile)


def wanted(config: Deployment) -> Wanted:
    """Return what `config` asks for."""
    profiles = {profile.name: profile for profile in config.storage.profiles}
    return Wanted(config.nats.partitions, stored(config), profiles)


def stream_config(profile: StorageProfile, partition: int, tokens: Iterable[str]) -> StreamConfig:
    """Return the configuration of one stream.

    Messages leave it oldest first and never from the middle, which positions are proven by: so nothing may be deleted or
    rolled up, nothing ends by itself where the profile does not say so, and there are no markers of deletion.
    """
    source, destination = republish(partition)
    return {
        "name": stream_name(profile.name, partition),
        "subjects": subjects_of(tokens, profile.name, partition),
        "retention": "limits",
        "storage": profile.storage,
        "num_replicas": profile.replicas,
        "max_age": _nanoseconds(profile.max_age),
        "max_bytes": profile.max_bytes or -1,
        "max_msgs": -1,
        "max_msgs_per_subject": profile.max_messages,
        "duplicate_window": _nanoseconds(profile.duplicate_window),
        "discard": "old",
        "republish": {"src": source, "dest": destination},
        "subject_delete_marker_ttl": 0,
        "allow_direct": True,
        "allow_atomic": True,
        "allow_msg_ttl": profile.message_ttl,
        "allow_rollup_hdrs": False,
        "deny_delete": True,
        "deny_purge": False,
        "metadata": {LAYOUT_KEY: str(LAYOUT)},
    }


def bucket_config(replicas: int, door: str) -> StreamConfig:
    """Return the configuration of the stream behind TW_META: any client of NATS key-value buckets can read it.

    It is written through its `door`, and whoever listens hears of a new record where it is read.
    """
    return {
        "name": META_STREAM,
        "subjects": [f"{door}.>"],
        "subject_transform": {"src": f"{door}.>", "dest": f"{META_SUBJECT}.>"},
        "republish": {"src": LAYOUT_SUBJECT, "dest": LAYOUT_SUBJECT},
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "deny_purge": False,
        "metadata": {LAYOUT_KEY: str(LAYOUT)},
    }


def subjects_of(tokens: Iterable[str], profile: str, partition: int) -> list[str]:
    """Return what a stream of these namespaces takes."""
    return [captured(token, partition) for token in sorted(tokens)] or [vacant(profile, partition)]


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)
