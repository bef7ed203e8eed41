"""What edges announce in these measurements: connections with ids, users and info as real ones have, spread over edges and partitions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Final, TypeVar

import msgspec

from tidewire.kernel.presence_wire import (
    Change,
    Chunk,
    Connected,
    Delta,
    Joined,
    Left,
    Occupied,
    encode,
    user_partition,
)
from tidewire.kernel.subjects import encode_channel, partition_of

PARTITIONS: Final = 16
EDGES: Final = 10
BATCH: Final = 50
"""Changes of one delta."""
CHUNK: Final = 400
"""Entries of one chunk: some 48 KB."""
STRIDE: Final = 7919
"""Between the channels of a connection."""
T = TypeVar("T")


class Crowd(msgspec.Struct, frozen=True):
    """So many members: each connection in `each` channels, `size` members in a channel. `users`: they are announced, too."""

    members: int
    each: int = 1
    size: int = 100
    users: bool = False

    @property
    def title(self) -> str:
        """In a table."""
        users = ", users announced" if self.users else ""
        channels = "one channel" if self.each == 1 else f"{self.each} channels"
        return f"{self.members // self.each:,} connections in {channels} of {self.size} members{users}"

    def changes(self, edge: int) -> Iterator[tuple[int, Change]]:
        """Yield what one edge announces, each with its partition: every connection of an edge, one after the other."""
        channels = max(1, self.members // self.size)
        occupied = dict[int, int]()
        for number in range(edge, self.members // self.each, EDGES):
            client, user = str(uuid.UUID(int=number * 0x9E3779B97F4A7C15 % 2**128)), f"user-{number}"
            if self.users:
                yield user_partition(user, PARTITIONS), Connected(user, client, 1_700_000_000_000 + number)
            info = b'{"name":"User %d"}' % number
            for index in range(self.each):
                channel = (number * self.each // self.size + index * STRIDE) % channels
                name = f"room:{channel}"
                if channel not in occupied:
                    occupied[channel] = partition_of(encode_channel(name), PARTITIONS)
                    yield occupied[channel], Occupied(name)
                yield occupied[channel], Joined(name, client, user, info)


class Said(msgspec.Struct):
    """What an edge has said in one partition, encoded."""

    last: int = 0
    members: int = 0
    users: int = 0
    channels: int = 0
    deltas: list[bytes] = []
    leaves: list[bytes] = []
    chunks: list[bytes] = []


def said(crowd: Crowd, edge: int) -> dict[int, Said]:
    """Return all that an edge announces, as deltas, the leaves after them, and as snapshots."""
    changes: dict[int, list[Change]] = {}
    for partition, change in crowd.changes(edge):
        changes.setdefault(partition, []).append(change)
    return {partition: _said(edge, partition, found) for partition, found in changes.items()}


def _said(edge: int, partition: int, changes: list[Change]) -> Said:
    found = Said(last=len(changes))
    for change in changes:
        found.members += isinstance(change, Joined)
        found.users += isinstance(change, Connected)
        found.channels += isinstance(change, Occupied)
    found.deltas = [encode(Delta(1, 1, first, batch)) for first, batch in batches(changes, BATCH, 1)]
    gone = [Left(each.channel, each.client) for each in changes if isinstance(each, Joined)]
    found.leaves = [
        encode(Delta(1, 1, first, batch)) for first, batch in batches(gone, BATCH, found.last + 1)
    ]
    parts = list(batches(changes, CHUNK, 0))
    found.chunks = [
        encode(Chunk(1, 1, f"edge-{edge}", partition, found.last, index, index == len(parts) - 1, batch))
        for index, (_, batch) in enumerate(parts)
    ]
    return found


def batches(items: list[T], size: int, first: int) -> Iterator[tuple[int, tuple[T, ...]]]:
    """Yield items in groups, each with the number of its first one."""
    rest = iter(items)
    while batch := tuple(islice(rest, size)):
        yield first, batch
        first += len(batch)
