"""Metrics of positions: recoveries, gaps, and how channels stand beside their history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.platform.metrics import Counter, Gauge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tidewire.edge.recovery import Recovery

RECOVERIES = ("recovered", "empty", "trimmed", "other_epoch", "too_many", "refused")
GAPS = ("found", "filled", "lost")


class RecoveryTelemetry:
    """The part of ports.Metrics that channels with history report to."""

    def __init__(self) -> None:
        self._recoveries = Counter(
            "tidewire_recoveries",
            "Subscriptions that asked for what they had missed: recovered (proven to be all of it; in cache mode: the latest), "
            "empty (cache mode, nothing is stored); told that they did not recover since it was trimmed, other_epoch (the "
            "position is of another life of the stream, or ahead of it) or too_many (publications or bytes); refused with a "
            "temporary error (history is away, or too much waits).",
            ["outcome"],
        )
        self._gaps = Counter(
            "tidewire_position_gaps",
            "Gaps in channels with history: found (a live publication does not follow the one before), filled from history, "
            "lost (what is between could not be proven: positioned subscribers were sent away, and recover).",
            ["outcome"],
        )
        self._duplicates = Counter(
            "tidewire_publications_duplicate",
            "Live publications that were dropped, since history had shown them before.",
        )
        self._reused = Counter(
            "tidewire_recovery_pages_reused",
            "Recoveries that were answered with what history had just shown another client with the same position.",
        )
        self._checked = Counter(
            "tidewire_positions_checked", "Channels whose position was compared with the history service's."
        )
        self._behind = Counter(
            "tidewire_positions_behind",
            "Of those the channels that had not heard all of it, or were of another epoch. Some are only on their way.",
        )
        for outcome in RECOVERIES:
            self._recoveries.inc(0, (outcome,))
        for outcome in GAPS:
            self._gaps.inc(0, (outcome,))

    def recovery(self, outcome: str) -> None:
        """See ports.Metrics."""
        self._recoveries.inc(1, (outcome,))

    def gap(self, outcome: str) -> None:
        """See ports.Metrics."""
        self._gaps.inc(1, (outcome,))

    def duplicate_dropped(self) -> None:
        """See ports.Metrics."""
        self._duplicates.inc()

    def page_reused(self) -> None:
        """See ports.Metrics."""
        self._reused.inc()

    def positions_checked(self, count: int, behind: int) -> None:
        """See ports.Metrics."""
        self._checked.inc(count)
        self._behind.inc(behind)


def gauges(recovery: Recovery) -> Sequence[Gauge]:
    """Return what is read from the live parts when somebody scrapes."""
    reads = recovery.reads
    return (
        Gauge(
            "tidewire_positions",
            "Channels of this edge that have a position.",
            lambda: float(len(recovery.channels)),
        ),
        Gauge(
            "tidewire_positions_kept_bytes",
            "Bytes of publications that wait for history, or are kept for clients that are about to enter, or for those who come "
            "with a position that another client has just recovered from; 64 MiB at most.",
            lambda: float(recovery.kept),
        ),
        Gauge(
            "tidewire_edge_history_reads",
            "Reads of history: running (128 at most), and waiting for their turn (beyond 10,000 clients are refused).",
            lambda: {("running",): float(reads.running), ("waiting",): float(reads.waiting)},
            ["state"],
        ),
    )
