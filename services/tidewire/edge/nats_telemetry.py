"""Metrics of the edge's NATS connection and of the subject mapping behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.platform.metrics import Counter, Histogram, Registry, metrics_of
from tidewire.platform.nats_metrics import link_metrics

if TYPE_CHECKING:
    from tidewire.platform.nats_link import NatsLink


class NatsTelemetry:
    """Hears what the link watch, the ticker and the edge's start find out."""

    def __init__(self) -> None:
        self._nats_errors = Counter(
            "tidewire_nats_errors",
            "Trouble on the NATS connection that left it alive: permissions, slow_consumer, callback, other.",
            ["kind"],
        )
        self._nats_lost = Counter("tidewire_nats_disconnects", "Times that the connection to NATS was lost.")
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

    def register(self, registry: Registry, link: NatsLink) -> None:
        """Expose everything, with what the link counts itself."""
        registry.add(metrics_of(self))
        registry.add(link_metrics(link))

    def nats_error(self, kind: str) -> None:
        """Something went wrong on the NATS connection without ending it."""
        self._nats_errors.inc(1, (kind,))

    def nats_lost(self) -> None:
        """The connection to NATS is gone."""
        self._nats_lost.inc()

    def nats_round_trip(self, seconds: float) -> None:
        """NATS answered after this."""
        self._nats_round_trip.observe(seconds)

    def unmapped(self) -> None:
        """A publication came from a node without the mapping and was put right."""
        self._unmapped.inc()

    def unmapped_lost(self) -> None:
        """Such a publication could not be put right."""
        self._unmapped_lost.inc()

    def mapping_failed(self) -> None:
        """The node behind the link does not map."""
        self._mapping_failures.inc()
