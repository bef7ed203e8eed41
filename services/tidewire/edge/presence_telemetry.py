"""Metrics of presence on an edge. No channel, user or client is a label of any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.kernel.seldom import Seldom
from tidewire.platform.metrics import Counter, Gauge, Histogram, metrics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.lobby import Lobby
    from tidewire.edge.presence_ports import PresenceMetrics

    Metric = Counter | Gauge | Histogram


class PresenceTelemetry:
    """Implements presence_ports.PresenceMetrics."""

    def __init__(self, log: FilteringBoundLogger, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._seldom = Seldom(monotonic)
        self._changes = Counter(
            "tidewire_presence_changes",
            "What happened here that presence has to do with, by kind: joined, left, renewed (a member's info), counted "
            "(a subscriber whose channel keeps no presence), connected, disconnected.",
            ["kind"],
        )
        self._announced = Counter(
            "tidewire_presence_announced",
            "Changes that were sent to the presence service, and those lost since NATS was away: replicas see the gap and ask "
            "for a snapshot. Changes that undo each other within a batch are one.",
            ["outcome"],
        )
        self._asked = Counter(
            "tidewire_presence_snapshots_asked",
            "Partitions whose snapshot a replica wants: first, joined (others wait for the same), again (this replica waits "
            "already), refused (32 wait).",
            ["outcome"],
        )
        self._chunks = Counter(
            "tidewire_presence_snapshot_chunks",
            "Parts of snapshots that were made: sent, or lost since NATS was away.",
            ["outcome"],
        )
        self._entries = Counter(
            "tidewire_presence_snapshot_entries", "Members, connections and channels in those parts."
        )
        self._told = Counter(
            "tidewire_presence_events",
            "Joins and leaves of this edge: join, leave (told to all edges), undone (within a batch: told to nobody), lost (NATS "
            "was away).",
            ["outcome"],
        )
        self._dropped = Counter(
            "tidewire_presence_events_dropped",
            "Joins and leaves that came and were told to nobody: repeated (a leave that had come before), wrong (a leave of a "
            "client that is here: the join is told again).",
            ["reason"],
        )
        self._delivered = Counter(
            "tidewire_presence_events_delivered",
            "Joins and leaves written, counted once for each subscriber.",
        )
        self._unread = Counter(
            "tidewire_presence_messages_refused",
            "Messages on tw.pres.* that are not as they must be: malformed, or reply (an Ask that wants its answer elsewhere "
            "than on tw.pres.c).",
            ["why"],
        )
        self._others = Counter(
            "tidewire_presence_others_asked",
            "Connects with client.single_connection: refuse, by what the presence service said: alone, elsewhere (closed with "
            "3504), unknown (it did not answer in time: edges tell each other after the reply).",
            ["outcome"],
        )

    def all(self, lobby: Lobby) -> Sequence[Metric]:
        """Return everything, with gauges read from the live parts."""
        return [
            *metrics_of(self),
            Gauge(
                "tidewire_presence_rooms",
                "Channels whose joins and leaves are heard here, or were in the last 10 s.",
                lambda: float(len(lobby.rooms)),
            ),
            Gauge(
                "tidewire_presence_leaves_held",
                "Leaves that are held back for join_leave_debounce, or owed with another one; 100,000 at most.",
                lambda: float(lobby.held),
            ),
        ]

    def presence_changed(self, kind: str) -> None:
        """See presence_ports.PresenceMetrics."""
        self._changes.inc(1, (kind,))

    def presence_announced(self, outcome: str, changes: int) -> None:
        """See presence_ports.PresenceMetrics."""
        self._announced.inc(changes, (outcome,))

    def snapshot_asked(self, outcome: str) -> None:
        """See presence_ports.PresenceMetrics."""
        self._asked.inc(1, (outcome,))

    def chunk_sent(self, replicas: int, entries: int) -> None:
        """See presence_ports.PresenceMetrics."""
        self._chunks.inc(1, ("sent" if replicas else "lost",))
        self._entries.inc(entries)

    def event_told(self, outcome: str) -> None:
        """See presence_ports.PresenceMetrics."""
        self._told.inc(1, (outcome,))

    def event_heard(self, outcome: str) -> None:
        """See presence_ports.PresenceMetrics."""
        self._dropped.inc(1, (outcome,))

    def events_delivered(self, deliveries: int) -> None:
        """See presence_ports.PresenceMetrics."""
        self._delivered.inc(deliveries)

    def presence_unread(self, why: str) -> None:
        """See presence_ports.PresenceMetrics. One is logged in a minute."""
        self._unread.inc(1, (why,))
        if self._seldom.allows(why):
            self._log.warning("presence.unread", reason=why)

    def others_asked(self, outcome: str) -> None:
        """See presence_ports.PresenceMetrics."""
        self._others.inc(1, (outcome,))


if TYPE_CHECKING:
    _: type[PresenceMetrics] = PresenceTelemetry
