"""Snapshots of what an edge has announced, for replicas that lack it: paced, and made once for all who wait for the same.

A snapshot is read from the hub and the sessions themselves while they go on, so that nothing is kept for it (see
`presence_wire.Chunk`). Where the edge was taken for dead, joins of the members go out with their snapshot, since their leaves
were told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from tidewire.edge.announcer import entry_of, member_of
from tidewire.edge.attendance import NOBODY
from tidewire.edge.roll import runs
from tidewire.kernel.presence_wire import Chunk, Event, Occupied

if TYPE_CHECKING:
    from tidewire.edge.announcer import Announcer
    from tidewire.edge.channel import Channel
    from tidewire.edge.pacer import Later
    from tidewire.edge.presence_ports import PresenceMetrics, PresenceWire
    from tidewire.kernel.presence_wire import Change, Joined

SLICE: Final = 4
"""Chunks in one go."""
PAUSE: Final = 0.005
"""Seconds between two goes, for all others; ten times that where NATS does not take the bytes."""
MAX_REPLICAS: Final = 32
"""Who may wait for a partition's snapshot."""


class Snapshots:
    """What replicas wait for. A replica that asks again while it waits is answered once, where it wants it last."""

    def __init__(
        self,
        edge: str,
        partitions: int,
        announcer: Announcer,
        channels: Mapping[str, Channel],
        wire: PresenceWire,
        later: Later,
        metrics: PresenceMetrics,
    ) -> None:
        """`edge` is the edge's name as a subject token."""
        self._edge = edge
        self._partitions = partitions
        self._announcer = announcer
        self._channels = channels
        self._wire = wire
        self._later = later
        self._metrics = metrics
        self._wanted: dict[int, dict[str, bytes]] = {}
        """Replicas and their reply subjects, by partition."""
        self._returned: set[int] = set()
        """Partitions with whose snapshots joins are told."""
        self._work: Iterator[bool] | None = None

    def __len__(self) -> int:
        return len(self._wanted)

    def ask(self, replica: str, reply: bytes, partitions: Iterable[int], *, returned: bool = False) -> None:
        """Send snapshots of partitions, of all where none is named, to a reply subject, soon. `returned`: see presence_wire.Ask."""
        for number in set(partitions) or range(self._partitions):
            if not 0 <= number < self._partitions:
                continue
            waiting = self._wanted.setdefault(number, {})
            if len(waiting) >= MAX_REPLICAS and replica not in waiting:
                self._metrics.snapshot_asked("refused")
                continue
            self._metrics.snapshot_asked("again" if replica in waiting else "joined" if waiting else "first")
            waiting[replica] = reply
            if returned:
                self._returned.add(number)
        if self._work is None and self._wanted:
            self._work = self._all()
            self._later(0.0, self._turn)

    def _turn(self) -> None:
        if self._wire.congested:
            self._later(10 * PAUSE, self._turn)
            return
        for _ in range(SLICE):
            if self._work is None or not next(self._work, False):
                self._work = None
                if self._wanted:  # NATS went away in the middle: replicas will ask again
                    self._wanted.clear()
                    self._returned.clear()
                return
        self._later(PAUSE, self._turn)

    def _all(self) -> Iterator[bool]:
        """Send chunk by chunk; False: NATS did not take it."""
        while self._wanted:
            number = next(iter(self._wanted))
            to = tuple(self._wanted.pop(number).values())
            for chunk in self._chunks(number):
                taken = self._wire.chunk(to, chunk)
                self._metrics.chunk_sent(len(to) if taken else 0, len(chunk.entries))
                yield taken

    def _chunks(self, number: int) -> Iterator[Chunk]:
        self._announcer.flush()
        partition = self._announcer.roll.find(number)
        last = 0 if partition is None else partition.last
        returned = number in self._returned
        self._returned.discard(number)
        index = 0
        before: list[Change] | None = None
        for entries in runs(self._entries(number, returned)):
            if before is not None:
                yield self._chunk(number, last, index, before)
                index += 1
            before = entries
        yield self._chunk(number, last, index, before or [], final=True)

    def _chunk(
        self, number: int, last: int, index: int, entries: list[Change], *, final: bool = False
    ) -> Chunk:
        return Chunk(
            v=1,
            incarnation=self._announcer.incarnation,
            edge=self._edge,
            partition=number,
            last=last,
            index=index,
            final=final,
            entries=tuple(entries),
        )

    def _entries(self, number: int, returned: bool) -> Iterator[Change]:
        partition = self._announcer.roll.find(number)
        if partition is None:
            return
        for name in list(partition.channels):
            if name in partition.channels:
                yield Occupied(name)
                yield from self._members(name, returned)
        for connection in list(partition.users):
            if connection in partition.users:
                yield entry_of(connection)

    def _members(self, name: str, returned: bool) -> Iterator[Joined]:
        channel = self._channels.get(name)
        if channel is None:
            return
        for group in list(channel.members.values()):
            for connection in list(group):
                subscription = connection.session.subscriptions.find(name)
                attended = NOBODY if subscription is None else subscription.attended
                if subscription is not None and attended.kept:
                    joined = member_of(connection, name, attended, bytes(subscription.grant.info))
                    if attended.told and returned:
                        self._wire.tell(name, _join(joined))
                    yield joined


def _join(joined: Joined) -> Event:
    return Event(1, "join", joined.client, joined.user, joined.conn_info, joined.chan_info)
