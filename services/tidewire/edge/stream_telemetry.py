"""Metrics and log lines of publications to namespaces with history."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tidewire.edge.pending import Verdict
from tidewire.kernel.seldom import Seldom
from tidewire.platform.exposition import Merge
from tidewire.platform.metrics import Counter, Gauge, Histogram, Registry, Total, metrics_of

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.lanes import Lanes


class StreamTelemetry:
    """Implements ports.StreamMetrics and ports.AnswerMetrics."""

    def __init__(self, log: FilteringBoundLogger, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._seldom = Seldom(monotonic)
        self._ended = Counter(
            "tidewire_stream_publications",
            "Clients' publications to namespaces with history, by what the client was told: stored, duplicate, dropped (its "
            "version is not newer), uncertain (no answer in time), blocked (behind such a one), nobody (no stream), unread, late, "
            "refused, contended, moving, away, full, too_large.",
            ["outcome"],
        )
        self._ended_late = Counter(
            "tidewire_stream_publications_late",
            "Publications whose clients had been told that nobody knows, by what became of them then: stored, duplicate, "
            "dropped, refused, or uncertain (given up).",
            ["outcome"],
        )
        self._acknowledged = Histogram(
            "tidewire_stream_ack_seconds",
            "From the last attempt to JetStream's acknowledgement, for each flight.",
        )
        self._stored = 0
        self._batched = Counter(
            "tidewire_stream_batches",
            "Atomic batches, by outcome: stored, or split (its publications went one by one).",
            ["outcome"],
        )
        self._repeated = Counter("tidewire_stream_retries", "Attempts that were repeated.")
        self._ignored = Counter(
            "tidewire_stream_answers_ignored",
            "Answers that were not believed: unexpected (late, or forged), malformed, other_stream, other_batch.",
            ["reason"],
        )
        self._refused = Counter(
            "tidewire_stream_refusals",
            "Attempts that JetStream did not store: nobody (no stream takes the subject, or it has no leader), refused.",
            ["verdict"],
        )
        self._taken = Counter(
            "tidewire_stream_ids_taken",
            "Publications whose id, which nobody can guess, somebody else had used: somebody interferes.",
        )

    def register(self, registry: Registry, lanes: Lanes) -> None:
        """Expose everything, with gauges read from the lanes."""
        registry.add(metrics_of(self))
        registry.add(
            [
                Gauge(
                    "tidewire_stream_lanes",
                    "Connections' channels with publications that are not settled.",
                    lambda: float(len(lanes)),
                ),
                Gauge(
                    "tidewire_stream_in_flight",
                    "Flights (a publication or a batch) that wait for an answer or another attempt.",
                    lambda: float(lanes.flying),
                ),
                Gauge(
                    "tidewire_stream_held_publications",
                    "Publications that fly or wait behind one that flies.",
                    lambda: float(lanes.room.publications),
                ),
                Gauge("tidewire_stream_held_bytes", "Bytes of those.", lambda: float(lanes.room.size)),
                Gauge(
                    "tidewire_stream_held_bytes_of_one",
                    "The same of the stream that holds most. One that does not answer may hold half of the room.",
                    lambda: float(lanes.room.largest),
                    merge=Merge.MAX,
                ),
                Total(
                    "tidewire_stream_acknowledged",
                    "Publications that JetStream has acknowledged to this edge.",
                    lambda: float(self._stored),
                ),
            ]
        )

    def acknowledged(self, seconds: float, flights: int = 1) -> None:
        """See ports.StreamMetrics."""
        self._acknowledged.observe(seconds, count=flights)

    def stored(self, publications: int) -> None:
        """See ports.StreamMetrics."""
        self._stored += publications

    def batch_stored(self) -> None:
        """See ports.StreamMetrics."""
        self._batched.inc(1, ("stored",))

    def ended(self, outcome: str, publications: int) -> None:
        """See ports.StreamMetrics."""
        self._ended.inc(publications, (outcome,))

    def ended_late(self, outcome: str, publications: int) -> None:
        """See ports.StreamMetrics."""
        self._ended_late.inc(publications, (outcome,))

    def repeated(self) -> None:
        """See ports.StreamMetrics."""
        self._repeated.inc()

    def split(self) -> None:
        """See ports.StreamMetrics."""
        self._batched.inc(1, ("split",))

    def id_taken(self) -> None:
        """See ports.StreamMetrics."""
        self._taken.inc()
        if self._seldom.allows("id_taken"):
            self._log.warning("stream.id_taken")

    def ignored(self, reason: str) -> None:
        """See ports.AnswerMetrics."""
        self._ignored.inc(1, (reason,))
        if reason != "unexpected" and self._seldom.allows(reason):
            self._log.warning("stream.answer_ignored", reason=reason)

    def refused(self, verdict: Verdict, why: str) -> None:
        """See ports.AnswerMetrics."""
        self._refused.inc(1, (verdict.value,))
        if self._seldom.allows(verdict.value):
            self._log.warning("stream.refused", verdict=verdict.value, why=why)
