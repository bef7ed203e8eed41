"""The parts of an edge that channels with history need, put together: reads, positions and the sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tidewire.edge.reads import Reads
from tidewire.edge.recovery import Recovery
from tidewire.edge.recovery_telemetry import gauges
from tidewire.edge.sweep import Sweep

if TYPE_CHECKING:
    from tidewire.edge.hub import Hub
    from tidewire.edge.ports import History, Metrics
    from tidewire.edge.rules import Rules
    from tidewire.platform.metrics import Gauge


class Positions:
    """What an edge with a history service has beyond others."""

    def __init__(
        self,
        history: History,
        hub: Hub,
        rules: Rules,
        metrics: Metrics,
        draw: Callable[[], float],
    ) -> None:
        self._recovery = Recovery(Reads(history), metrics, hub)
        hub.keep_positions(self._recovery, rules.is_stored)
        self.sweep = Sweep(history, self._recovery, metrics, draw)

    def tick(self) -> None:
        """Let `timers.TICK` seconds pass."""
        self._recovery.tick()
        self.sweep.tick()

    def gauges(self) -> Sequence[Gauge]:
        """Return what is read from the live parts when somebody scrapes."""
        return gauges(self._recovery)
