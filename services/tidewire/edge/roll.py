"""What an edge announces to the presence service: changes by partition, with their numbers, and how much there is. Pure.

Each change says what is, so of several about the same subscription, channel or connection within a batch the last is enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from tidewire.kernel.presence_wire import (
    CHUNK_SIZE,
    Change,
    Connected,
    Disconnected,
    Joined,
    Left,
    Occupied,
    PartitionState,
    Vacated,
    user_partition,
)
from tidewire.kernel.subjects import channel_partition

if TYPE_CHECKING:
    from tidewire.edge.attendance import Attendance
    from tidewire.edge.connection import Connection

ENTRY: Final = 32
"""Bytes of a change beside its texts, at most."""


class Run(NamedTuple):
    """Changes that are announced together: the first one's number, and in which partition."""

    partition: int
    first: int
    changes: Sequence[Change]


class Partition:
    """One partition: the number of the last change that was taken, and how much there is after all that are noted."""

    __slots__ = ("channels", "last", "members", "pending", "users")

    def __init__(self) -> None:
        self.last = 0
        self.members = 0
        self.users: dict[Connection, None] = {}
        self.channels: dict[str, int] = {}
        """Live subscriptions, by channel."""
        self.pending: dict[tuple[str, ...], Change] = {}


class Roll:
    """All partitions, those in which there never was anything left out."""

    __slots__ = ("_count", "dirty", "partitions", "pending")

    def __init__(self, count: int) -> None:
        self._count = count
        self.partitions: dict[int, Partition] = {}
        self.dirty: dict[int, None] = {}
        """Partitions in which changes wait."""
        self.pending = 0
        """How many wait, about: those that a later one replaced are counted, too."""

    def joined(self, channel: str, attendance: Attendance, joined: Joined) -> None:
        """Note that a subscription is live."""
        number = channel_partition(channel, self._count)
        partition = self._partition(number)
        if attendance.counted:
            subscribers = partition.channels.get(channel, 0)
            partition.channels[channel] = subscribers + 1
            if not subscribers:
                self._note(number, partition, (channel,), Occupied(channel))
        if attendance.kept:
            partition.members += 1
            self._note(number, partition, (channel, joined.client), joined)

    def renewed(self, joined: Joined) -> None:
        """Note that a live subscription has another info."""
        number = channel_partition(joined.channel, self._count)
        self._note(number, self._partition(number), (joined.channel, joined.client), joined)

    def left(self, channel: str, attendance: Attendance, client: str) -> None:
        """Note that it is over."""
        number = channel_partition(channel, self._count)
        partition = self._partition(number)
        if attendance.kept:
            partition.members -= 1
            self._note(number, partition, (channel, client), Left(channel, client))
        if attendance.counted:
            partition.channels[channel] -= 1
            if not partition.channels[channel]:
                del partition.channels[channel]
                self._note(number, partition, (channel,), Vacated(channel))

    def connected(self, connection: Connection, connected: Connected) -> None:
        """Note a connection of a user."""
        number = user_partition(connected.user, self._count)
        partition = self._partition(number)
        partition.users[connection] = None
        self._note(number, partition, ("", connected.client), connected)

    def disconnected(self, connection: Connection, disconnected: Disconnected) -> None:
        """Note that it is over."""
        number = user_partition(disconnected.user, self._count)
        partition = self._partition(number)
        del partition.users[connection]
        self._note(number, partition, ("", disconnected.client), disconnected)

    def take(self) -> Iterator[Run]:
        """Give numbers to what waits, and take it, in runs that each fit into a message."""
        dirty, self.dirty, self.pending = self.dirty, {}, 0
        for number in dirty:
            partition = self.partitions[number]
            changes, partition.pending = partition.pending, {}
            for run in runs(changes.values()):
                first = partition.last + 1
                partition.last += len(run)
                yield Run(number, first, run)

    def states(self) -> Sequence[PartitionState]:
        """Return where the partitions stand, when nothing waits."""
        return [
            PartitionState(number, each.last, each.members, len(each.users), len(each.channels))
            for number, each in self.partitions.items()
        ]

    def find(self, number: int) -> Partition | None:
        """Return a partition; None where there never was anything."""
        return self.partitions.get(number)

    def _partition(self, number: int) -> Partition:
        found = self.partitions.get(number)
        if found is None:
            found = self.partitions[number] = Partition()
        return found

    def _note(self, number: int, partition: Partition, key: tuple[str, ...], change: Change) -> None:
        partition.pending.pop(key, None)
        partition.pending[key] = change
        self.dirty[number] = None
        self.pending += 1


def runs(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Return changes in lists of about CHUNK_SIZE bytes, in order; a single one may be larger."""
    run: list[Change] = []
    room = CHUNK_SIZE
    for change in changes:
        size = size_of(change)
        if run and size > room:
            yield run
            run, room = [], CHUNK_SIZE
        run.append(change)
        room -= size
    if run:
        yield run


def size_of(change: Change) -> int:
    """Return the bytes that a change takes in a message, about; texts are counted as if of four bytes a character."""
    match change:
        case Joined():
            texts = len(change.channel) + len(change.client) + 4 * len(change.user)
            return ENTRY + texts + len(change.conn_info) + len(change.chan_info)
        case Left():
            return ENTRY + len(change.channel) + len(change.client)
        case Connected() | Disconnected():
            return ENTRY + 4 * len(change.user) + len(change.client)
        case Occupied() | Vacated():
            return ENTRY + len(change.channel)
