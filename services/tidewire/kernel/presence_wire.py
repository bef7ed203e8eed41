"""What edges and presence replicas say to each other over NATS: MessagePack arrays, whose first item is the form's version.

An edge announces, for each partition, a sequence of changes: subscriptions of its connections to channels that keep
presence, first and last subscribers of channels, and connections of users. A channel is announced on its own partition
(`subjects.partition_of`), a user on `user_partition`. Each life of an edge process is an incarnation; a later one ends the
earlier. Sequences begin at 1 in each incarnation and partition, and are contiguous: a gap, or a count that differs, has a
replica ask for a snapshot. Replicas ask for as much at a time as they take: snapshots of all edges at once would be more
than nats-server keeps for a connection.

`<edge>` is the edge's name as one subject token (`subjects.encode_token`), and a replica knows it by that token alone.

| subject | what |
|---|---|
| `tw.pres.d.<p>.<edge>` | `Delta`: changes, batched 20 to 50 ms |
| `tw.pres.h.<edge>` | `Heartbeat`, every 2 s, and at once when the edge starts or its link is back; `Bye` when it drains |
| `tw.pres.s.<edge>` | request `Ask`: replicas want snapshots; the edge answers with `Chunk`s on the reply subject |
| `tw.pres.s.all` | `Ask` of all edges: a replica has begun, and each edge sends a `Heartbeat` within 200 ms, no snapshot |
| `tw.pres.c.<replica>.<n>` | where a replica wants its `Chunk`s: edges answer nowhere else, whatever reply subject an `Ask` has |
| `tw.pres.j.<p>.<C>` | `Event`: a join or a leave as subscribers see it |
| `tw.pres.r.<replica>` | replicas among themselves (`ReplicaBeat`): who lives, and whose leaves were published |
| `tw.pres.o.<p>.<C>` | `Occupancy`: a channel has its first subscriber of the mesh, or has lost its last |

`<edge>` is the edge's name as one token (`subjects.encode_token`), and so is `Chunk.edge`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from tidewire.kernel.fnv import fnv1a32

VERSION: Final = 1
HEARTBEAT: Final = 2.0
"""Seconds between heartbeats of an edge, and of a replica."""
LEASE: Final = 6.0
"""Seconds without a heartbeat after which an edge's members are gone."""
CHUNK_SIZE: Final = 48 * 1024
"""Bytes of one chunk of a snapshot, about."""
ALL_EDGES: Final = "all"


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base: an array. New fields are appended with a default, so old readers skip them; another meaning is another version."""


Text = Annotated[str, Meta(max_length=255)]
User = Annotated[str, Meta(max_length=1024)]
"""As long as a token may name it."""


class Joined(_Message, tag="j", frozen=True):
    """A connection has subscribed to a channel that keeps presence. `conn_info` and `chan_info`: JSON, empty = none.

    `told`: whether its join and leave are told, where its token says so; None: where the namespace has `join_leave`.
    """

    channel: Text
    client: Text
    user: User
    conn_info: bytes = b""
    chan_info: bytes = b""
    told: bool | None = None


class Left(_Message, tag="l", frozen=True):
    """It has unsubscribed, or is gone."""

    channel: Text
    client: Text


class Connected(_Message, tag="c", frozen=True):
    """A user's connection is there; `since_ms` in Unix milliseconds."""

    user: User
    client: Text
    since_ms: int


class Disconnected(_Message, tag="d", frozen=True):
    """It is gone; `at_ms` in Unix milliseconds."""

    user: User
    client: Text
    at_ms: int


class Occupied(_Message, tag="o", frozen=True):
    """The edge has a subscriber of a channel, and had none."""

    channel: Text


class Vacated(_Message, tag="v", frozen=True):
    """The edge has no subscriber of a channel any more."""

    channel: Text


Change = Joined | Left | Connected | Disconnected | Occupied | Vacated


class Delta(_Message, frozen=True):
    """Changes of one edge in one partition, in order: numbers `first` to `first + len(changes) - 1`."""

    v: Literal[1]
    incarnation: int
    first: int
    changes: tuple[Change, ...]


class PartitionState(_Message, frozen=True):
    """Where an edge stands in a partition: the number of its last change, and how many entries there are after it."""

    partition: int
    last: int
    members: int
    users: int
    channels: int


class Heartbeat(_Message, tag="h", frozen=True):
    """An edge lives. Partitions in which it never had anything to say are left out. `count`: how many there are, 0: not told."""

    v: Literal[1]
    incarnation: int
    partitions: tuple[PartitionState, ...]
    count: int = 0


class Bye(_Message, tag="b", frozen=True):
    """An edge goes in order: all that it announced in this incarnation is over, and its own leaves are published."""

    v: Literal[1]
    incarnation: int


class Ask(_Message, frozen=True):
    """A replica wants snapshots of these partitions; none named: of all.

    `returned`: it had taken the edge for dead, and leaves of its members were told. Their joins are to be told again.
    """

    v: Literal[1]
    replica: Text
    partitions: tuple[int, ...] = ()
    returned: bool = False


class Chunk(_Message, frozen=True):
    """A part of a snapshot. Entries are `Joined`, `Connected` and `Occupied`.

    A snapshot may be taken while changes go on: it holds what there was at change `last` (the number when it began), and
    may hold or lack what changed since. Who applies all changes behind `last` once more ends at the truth, since each says
    what is, not what to add. The chunk with `final` ends it; `index` counts from 0.
    """

    v: Literal[1]
    incarnation: int
    edge: Text
    partition: int
    last: int
    index: int
    final: bool
    entries: tuple[Change, ...]


class Event(_Message, frozen=True):
    """A join or a leave as subscribers are to see it. `change` is "join" or "leave"; the channel is the subject's."""

    v: Literal[1]
    change: Literal["join", "leave"]
    client: Text
    user: User
    conn_info: bytes = b""
    chan_info: bytes = b""


class Occupancy(_Message, frozen=True):
    """A channel's first subscriber of the mesh is there, or its last one is gone."""

    v: Literal[1]
    occupied: bool
    at_ms: int


class ReplicaBeat(_Message, frozen=True):
    """A replica lives and serves these partitions (none named: all). `swept`: (edge, incarnation, partition) whose leaves are out.

    One that does not know yet what there is has no say among replicas (`speaks` is false): it is the word that it hears of itself.
    """

    v: Literal[1]
    replica: Text
    partitions: tuple[int, ...] = ()
    swept: tuple[tuple[str, int, int], ...] = ()
    speaks: bool = True


_M = TypeVar("_M")
_ENCODER = msgspec.msgpack.Encoder()
encode = _ENCODER.encode
"""Return the bytes of any message of this module."""


def reader(form: type[_M]) -> msgspec.msgpack.Decoder[_M]:
    """Return a decoder of one form; its `decode` raises msgspec.MsgspecError for anything else."""
    return msgspec.msgpack.Decoder(form)


def user_partition(user: str, partitions: int) -> int:
    """Return the partition (0 to partitions - 1) on which connections of a user are announced."""
    return fnv1a32(b"tw.user." + user.encode()) % partitions
