"""What all processes of a deployment must agree on, kept in the cluster: the record `layout` of the bucket TW_META.

`tidewire migrate` writes it, by compare and set; every other process reads it and refuses to work against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from tidewire.kernel.errors import TidewireError
from tidewire.kernel.streams import LAYOUT, META_BUCKET, META_STREAM, META_SUBJECT
from tidewire.kernel.subjects import NO_NAMESPACE
from tidewire.platform.jetstream import API, JetStream, JetStreamError

RECORD: Final = 1
"""The version of the record itself."""
LAYOUT_SUBJECT: Final = f"{META_SUBJECT}.layout"
DIRECT_GET: Final = f"{API}DIRECT.GET.{META_STREAM}.{LAYOUT_SUBJECT}"
"""The one subject of JetStream's API that an edge may use."""
MIGRATE: Final = "`tidewire migrate`"

_MISSING: Final = (b"NATS/1.0 404", b"NATS/1.0 503")
_SEQUENCE: Final = re.compile(rb"\r\nNats-Sequence: (\d+)\r\n")
_WRONG_SEQUENCE: Final = 10071


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


async def read_meta(js: JetStream) -> Meta | None:
    """Return the record from any server that has it: it may be seconds old. None: there is no record, or no bucket.

    Raises JetStreamError where NATS does not answer, MetaError for a record of another version.
    """
    held = await read_held(js)
    return None if held is None else held.meta


async def read_held(js: JetStream) -> Held | None:
    """Return the record and its sequence, as `read_meta`."""
    header, payload = await js.ask(DIRECT_GET, b"")
    if header.startswith(_MISSING):
        return None
    sequences = _SEQUENCE.findall(header)
    if not sequences:
        raise JetStreamError(503, 0, "no answer of JetStream's to the question for TW_META")
    return Held(decode_meta(payload), int(sequences[-1]))


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


async def write_meta(js: JetStream, meta: Meta, after: int) -> int:
    """Put the record in place of the one with sequence `after` (0: where there is none) and return its sequence.

    Raises MetaError where somebody else has written one, JetStreamError where nobody knows.
    """
    header = f"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {after}\r\n\r\n".encode()
    _, payload = await js.ask(LAYOUT_SUBJECT, msgspec.json.encode(meta), header)
    try:
        answer = msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.DecodeError:
        raise JetStreamError(
            503, 0, f"{META_BUCKET} did not take the record: is there no such bucket?"
        ) from None
    error = answer.get("error")
    if error is None:
        return int(answer["seq"])
    if error.get("err_code") == _WRONG_SEQUENCE:
        raise MetaError(f"{META_BUCKET} was written by somebody else meanwhile: run {MIGRATE} again")
    raise JetStreamError(error.get("code", 500), error.get("err_code", 0), error.get("description", ""))


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
