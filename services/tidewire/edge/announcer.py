"""Announces to the presence service who is there: batches of changes, heartbeats, and at the end a goodbye.

Nothing is kept for a time when NATS is away: what it does not take is gone, but has its numbers, so that replicas see the gap
and ask for a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tidewire.edge.roll import Roll
from tidewire.edge.timers import TICK
from tidewire.kernel.presence_wire import HEARTBEAT, Connected, Disconnected, Joined

if TYPE_CHECKING:
    from tidewire.edge.attendance import Attendance
    from tidewire.edge.connection import Connection
    from tidewire.edge.pacer import Later
    from tidewire.edge.presence_ports import PresenceMetrics, PresenceWire
    from tidewire.kernel.clock import Clock

BATCH: Final = 0.03
"""Seconds from the first change to its announcement."""
MAX_PENDING: Final = 4096
"""Changes that wait; with more they are announced at once."""
BEAT_TICKS: Final = round(HEARTBEAT / TICK)
SPREAD: Final = 0.2
"""Seconds within which edges answer a replica that has begun."""
SETTLED_AFTER: Final = 0.5
"""Seconds after which what was announced has long been heard."""


class Announcer:
    """One edge's voice. Its `incarnation`, the time of its start in nanoseconds, is greater than that of every earlier life."""

    def __init__(
        self,
        wire: PresenceWire,
        partitions: int,
        clock: Clock,
        later: Later,
        draw: Callable[[], float],
        metrics: PresenceMetrics,
    ) -> None:
        self.incarnation = int(clock.wall() * 1e9)
        self.roll = Roll(partitions)
        self._wire = wire
        self._clock = clock
        self._later = later
        self._draw = draw
        self._metrics = metrics
        self._ticks = 0
        self._flush_is_due = False
        self._beat_is_due = False
        self._announced_at = -SETTLED_AFTER
        self._over = False

    def joined(self, connection: Connection, channel: str, attendance: Attendance, info: bytes) -> None:
        """A subscription is live."""
        self.roll.joined(channel, attendance, member_of(connection, channel, attendance, info))
        self._note("joined" if attendance.kept else "counted")

    def renewed(self, connection: Connection, channel: str, attendance: Attendance, info: bytes) -> None:
        """A subscription has another info."""
        self.roll.renewed(member_of(connection, channel, attendance, info))
        self._note("renewed")

    def left(self, connection: Connection, channel: str, attendance: Attendance) -> None:
        """A subscription is over."""
        self.roll.left(channel, attendance, connection.session.party.client)
        self._note("left" if attendance.kept else "counted")

    def connected(self, connection: Connection) -> None:
        """A user's connection is there."""
        self.roll.connected(connection, entry_of(connection))
        self._note("connected")

    def disconnected(self, connection: Connection) -> None:
        """It is gone."""
        party = connection.session.party
        over = Disconnected(party.user, party.client, int(self._clock.wall() * 1e3))
        self.roll.disconnected(connection, over)
        self._note("disconnected")

    def _note(self, kind: str) -> None:
        self._metrics.presence_changed(kind)
        if self.roll.pending >= MAX_PENDING:
            self.flush()
        elif not self._flush_is_due:
            self._flush_is_due = True
            self._later(BATCH, self._flush_when_due)

    def _flush_when_due(self) -> None:
        self._flush_is_due = False
        self.flush()

    def flush(self) -> None:
        """Announce what waits."""
        for run in self.roll.take():
            self._announced_at = self._clock.monotonic()
            if self._over:
                continue
            taken = self._wire.delta(run.partition, self.incarnation, run.first, run.changes)
            self._metrics.presence_announced("sent" if taken else "lost", len(run.changes))

    @property
    def settled(self) -> bool:
        """Whether every replica that hears this edge has heard all of it."""
        return not self.roll.dirty and self._clock.monotonic() - self._announced_at >= SETTLED_AFTER

    def tick(self) -> None:
        """Let `timers.TICK` seconds pass."""
        self._ticks += 1
        if self._ticks % BEAT_TICKS == 0:
            self.beat()

    def beat(self) -> None:
        """Say that this edge lives, and where it stands, which is behind all that it has announced."""
        self._beat_is_due = False
        self.flush()
        if not self._over:
            self._wire.heartbeat(self.incarnation, self.roll.states())

    def beat_soon(self) -> None:
        """Do so within SPREAD seconds: a replica has begun, and all edges answer it."""
        if not self._beat_is_due:
            self._beat_is_due = True
            self._later(SPREAD * self._draw(), self.beat)

    def end(self) -> None:
        """Say goodbye: nothing of this incarnation is there any more, and nothing is announced from now on."""
        self.flush()
        self._wire.bye(self.incarnation)
        self._over = True


def entry_of(connection: Connection) -> Connected:
    """Return what is announced of a user's connection."""
    party = connection.session.party
    return Connected(party.user, party.client, party.since // 1000)


def member_of(connection: Connection, channel: str, attendance: Attendance, info: bytes) -> Joined:
    """Return what is announced of a member."""
    party, told = connection.session.party, attendance.told if attendance.by_token else None
    return Joined(channel, party.client, party.user, bytes(party.info.conn_info), info, told)
