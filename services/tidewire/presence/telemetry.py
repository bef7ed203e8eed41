"""What the presence service counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tidewire.kernel.seldom import Seldom
from tidewire.platform.metrics import Counter, Gauge, Histogram, Registry, Total, metrics_of

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.presence.replica import Replica

REBUILD_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Telemetry:
    """Implements `ports.Metrics` and that of the adapter."""

    def __init__(self, log: FilteringBoundLogger, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._seldom = Seldom(monotonic)
        self._lacking = Counter(
            "tidewire_presence_lacking",
            "Times that an edge's state in a partition had to be asked for: changes were missed (gap), counts differ (counts), "
            "somebody else spoke in its name (ahead), too much waited for a snapshot (overflow), a part of one was missing "
            "(chunk), the edge did not answer (silence), or there is no room (full).",
            ["reason"],
        )
        self._asked = Counter("tidewire_presence_snapshots", "Snapshots that were asked for.")
        self._ended = Counter(
            "tidewire_presence_edges_ended",
            "Lives of edges that are over: in order (bye), without a sign of life (lease), or by the next one (successor).",
            ["cause"],
        )
        self._left = Counter("tidewire_presence_leaves", "Leaves of dead edges' members that were published.")
        self._lost = Counter(
            "tidewire_presence_leaves_lost", "Members whose leave is not published: too many waited."
        )
        self._turned = Counter(
            "tidewire_presence_occupancy", "Times that a channel was called occupied, or vacated."
        )
        self._rebuilt = Histogram(
            "tidewire_presence_rebuild_seconds",
            "Time from a start, or from when NATS was back, until all was there.",
            REBUILD_BUCKETS,
        )
        self._answers = Counter(
            "tidewire_presence_answers",
            "Answers for single channels and users, by method and outcome: ok, or why there is none.",
            ["method", "outcome"],
        )
        self._dropped = Counter(
            "tidewire_presence_dropped",
            "Messages that were not understood (malformed), of a replica in another's name (other_name), or about what is no "
            "channel of its partition (no_channel). Of an edge with another nats.partitions (partitions): there are no answers "
            "while it lives.",
            ["reason"],
        )

    def register(self, registry: Registry, replica: Replica) -> None:
        """Expose everything."""
        mesh = replica.mesh
        registry.add(metrics_of(self))
        registry.add(
            [
                Gauge("tidewire_presence_edges", "Edges that live.", lambda: len(mesh.lives)),
                Gauge(
                    "tidewire_presence_entries",
                    "What is held: members of channels, connections of users, occupied channels of edges.",
                    lambda: {(kind,): float(count) for kind, count in mesh.counts().items()},
                    ["kind"],
                ),
                Gauge(
                    "tidewire_presence_unsynced",
                    "Edges of which something is missing: their partitions are UNAVAILABLE.",
                    lambda: sum(not life.is_whole for life in mesh.lives.values()),
                ),
                Gauge(
                    "tidewire_presence_replicas",
                    "Other replicas that live, and know what there is.",
                    lambda: len(replica.peers.live),
                ),
                Gauge(
                    "tidewire_presence_snapshots_under_way",
                    "Snapshots that are on their way.",
                    lambda: replica.asks.under_way,
                ),
                Gauge(
                    "tidewire_presence_leaves_waiting",
                    "Members of dead edges whose leave is not published yet.",
                    lambda: replica.leaves.waiting,
                ),
                Gauge(
                    "tidewire_presence_seen",
                    "Users of whom it is known when they left.",
                    lambda: len(replica.seen),
                ),
                Total(
                    "tidewire_presence_unheard",
                    "Messages of lives that are over (two edges of one name, if it goes on), or of too many edges.",
                    lambda: mesh.unheard,
                ),
                Total(
                    "tidewire_presence_occupancy_lost",
                    "Changes of occupancy that are not told: too many waited.",
                    lambda: replica.occupancy.untold,
                ),
            ]
        )

    def lacking(self, reason: str) -> None:
        """See ports.Metrics."""
        self._lacking.inc(1, (reason,))

    def collided(self, edge: str) -> None:
        """See ports.Metrics. One is logged in a minute; `tidewire_presence_unheard_total` counts the words."""
        if self._seldom.allows("name_collision"):
            self._log.warning("presence.name_collision", edge=edge)

    def asked(self, snapshots: int) -> None:
        """See ports.Metrics."""
        self._asked.inc(snapshots)

    def ended(self, cause: str) -> None:
        """See ports.Metrics."""
        self._ended.inc(1, (cause,))

    def left(self, count: int) -> None:
        """See ports.Metrics."""
        self._left.inc(count)

    def leaves_lost(self, count: int) -> None:
        """See ports.Metrics."""
        self._lost.inc(count)

    def turned(self, count: int) -> None:
        """See ports.Metrics."""
        self._turned.inc(count)

    def whole(self, seconds: float) -> None:
        """See ports.Metrics."""
        self._rebuilt.observe(seconds)

    def answered(self, method: str, outcome: str, count: int) -> None:
        """So many items of a call were answered so."""
        self._answers.inc(count, (method, outcome))

    def dropped(self, reason: str) -> None:
        """A message is of no use."""
        self._dropped.inc(1, (reason,))
