"""What the history service does when something happens to its NATS link."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tidewire.kernel.seldom import Seldom

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.history.telemetry import Telemetry


class LinkWatch:
    """Implements `platform.nats_types.LinkListener`. It warns once a minute of a kind; the metrics count every case."""

    def __init__(
        self,
        telemetry: Telemetry,
        log: FilteringBoundLogger,
        monotonic: Callable[[], float],
        doubt: Callable[[], None],
        last_error: Callable[[], Exception | None],
    ) -> None:
        self._telemetry = telemetry
        self._log = log
        self._doubt = doubt
        self._last_error = last_error
        self._seldom = Seldom(monotonic)

    def link_away(self) -> None:
        """Nothing is answered until NATS is back, since nothing can be proven."""
        self._telemetry.nats_lost()
        self._log.warning("nats.away", error=str(self._last_error()))
        self._doubt()

    def link_back(self) -> None:
        """What was missed is found by looking at each stream."""
        self._log.info("nats.back")
        self._doubt()

    def chunk_end(self) -> None:
        """Nothing waits for the end of a read."""

    def link_error(self, kind: str) -> None:
        """Count, and warn now and then."""
        self._telemetry.nats_error(kind)
        if self._seldom.allows(kind):
            self._log.warning("nats.error", kind=kind, error=str(self._last_error()))
