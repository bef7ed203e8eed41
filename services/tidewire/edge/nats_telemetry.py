"""Metrics of what is behind the edge's NATS connection: its lag, and the subject mapping."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tidewire.kernel.seldom import Seldom
from tidewire.platform.metrics import Counter, Histogram, Registry, metrics_of

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class NatsTelemetry:
    """Hears what the ticker, the node check and the rescue find out. It warns once a minute of a kind, and counts every case."""

    def __init__(self, log: FilteringBoundLogger, monotonic: Callable[[], float]) -> None:
        self._log = log
        self._seldom = Seldom(monotonic)
        self._nats_round_trip = Histogram(
            "tidewire_nats_round_trip_seconds", "PING to PONG on the NATS connection, once a second: its lag."
        )
        self._unmapped = Counter(
            "tidewire_unmapped_publications",
            "Publications found on tw.pub, which no mapped nats-server delivers: a node lacks the subject mapping.",
        )
        self._unmapped_lost = Counter(
            "tidewire_unmapped_publications_lost",
            "Of these, those that could not be put on their partition (larger than max_payload with the mark, or NATS "
            "is away): nobody received them.",
        )
        self._mapping_failures = Counter(
            "tidewire_nats_mapping_failures",
            "Times that the NATS node of this edge turned out to lack the subject mapping.",
        )

    def register(self, registry: Registry) -> None:
        """Expose everything."""
        registry.add(metrics_of(self))

    def nats_round_trip(self, seconds: float) -> None:
        """NATS answered after this."""
        self._nats_round_trip.observe(seconds)

    def unmapped(self) -> None:
        """A publication came from a node without the mapping and was put right."""
        self._unmapped.inc()
        self._warn(
            "nats.unmapped_node", problem="a nats-server lacks the mapping of tw.pub.>; edges stand in for it"
        )

    def unmapped_lost(self, error: Exception) -> None:
        """Such a publication could not be put right."""
        self._unmapped_lost.inc()
        self._warn("nats.unmapped_lost", error=str(error))

    def mapping_failed(self) -> None:
        """The node behind the link does not map."""
        self._mapping_failures.inc()

    def _warn(self, event: str, **fields: str) -> None:
        if self._seldom.allows(event):
            self._log.warning(event, **fields)
