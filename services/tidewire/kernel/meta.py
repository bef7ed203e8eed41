"""What all processes of a deployment must agree on: the record `layout` of the bucket TW_META, and what differs from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from tidewire.kernel.errors import TidewireError
from tidewire.kernel.streams import LAYOUT, META_BUCKET
from tidewire.kernel.subjects import NO_NAMESPACE

RECORD: Final = 1
"""The version of the record itself."""
MIGRATE: Final = "`tidewire migrate`"
REFRESH: Final = 30.0
"""Seconds between two looks at the record without a message about it."""
LOOKS: Final = (0.0, 0.25, 2.0)
"""Seconds between looks after a message or a reconnect."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """The record. `namespaces`: those with history, by subject token, each with its profile."""

    version: int = RECORD
    layout: int = LAYOUT
    partitions: int
    namespaces: dict[str, str]
    moving: tuple[str, ...] = ()
    """Namespaces whose publications are not taken while they change their place."""
    secret: str
    """Hexadecimal: the key of the HMAC that makes ids of publications, so that no publisher can guess another's."""

    def __repr__(self) -> str:
        """Say all but the secret."""
        return f"Meta(partitions={self.partitions}, namespaces={self.namespaces}, moving={self.moving})"


class Held(msgspec.Struct, frozen=True):
    """The record as the bucket holds it: after `sequence` no other one was written when it was read."""

    meta: Meta
    sequence: int


class MetaError(TidewireError):
    """The record cannot be read, or was written by somebody else meanwhile; the message says what to do."""


def decode_meta(record: bytes) -> Meta:
    """Return the record. Raises MetaError for one that this release does not understand."""
    try:
        version = msgspec.json.decode(record, type=dict[str, Any]).get("version")
        if version == RECORD:
            return msgspec.json.decode(record, type=Meta)
    except msgspec.DecodeError:
        raise MetaError(
            f"{META_BUCKET} holds a record that is none: restore it, or delete the bucket and {MIGRATE}"
        ) from None
    raise MetaError(
        f"{META_BUCKET} holds a record of version {version}: run the release of Tidewire that wrote it"
    )


def verify(meta: Meta | None, partitions: int, namespaces: Mapping[str, str]) -> list[str]:
    """Return a line for each thing in which a process and its cluster differ; none: it may work.

    `namespaces` are those with history in the process's configuration, as `options.stored.stored` returns them.
    Namespaces that only the cluster knows are no mismatch: they were added for processes that are yet to be reloaded.
    """
    if meta is None:
        return [_none(namespaces)] if namespaces else []
    if meta.layout != LAYOUT:
        return [
            f"the cluster has layout {meta.layout}, and this release works with {LAYOUT}: run one release everywhere, then {MIGRATE}"
        ]
    lines = list(_misplaced(meta, namespaces))
    if meta.partitions != partitions:
        lines.insert(
            0,
            f"nats.partitions is {partitions}, and the cluster has {meta.partitions} for its whole life: set that",
        )
    return lines


def _misplaced(meta: Meta, namespaces: Mapping[str, str]) -> Iterator[str]:
    for token, profile in namespaces.items():
        held = meta.namespaces.get(token)
        if token in meta.moving or held == profile:
            continue
        if held is None:
            yield f"{called(token)} has no stream yet: run {MIGRATE}"
        else:
            yield (
                f"{called(token)} is in profile {held}, and storage_profile is {profile}: run `tidewire migrate --move {token}`"
            )


def _none(namespaces: Iterable[str]) -> str:
    return f"there is no {META_BUCKET} in JetStream, and history needs it ({', '.join(map(called, namespaces))}): run {MIGRATE}"


def called(token: str) -> str:
    """Return what a person calls a namespace given as subject token."""
    return "namespace _ (channels without one)" if token == NO_NAMESPACE else f"namespace {token}"
