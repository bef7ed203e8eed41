"""What the presence service does when something happens to its NATS link."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tidewire.kernel.seldom import Seldom

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.presence.telemetry import Telemetry


class LinkWatch:
    """Implements `platform.nats_types.LinkListener`. It warns once a minute of a kind; the metrics count every case."""

    def __init__(
        self,
        telemetry: Telemetry,
        log: FilteringBoundLogger,
        monotonic: Callable[[], float],
        turned: Callable[[bool], None],
        last_error: Callable[[], Exception | None],
    ) -> None:
        """`turned` hears whether NATS is there, whenever that changes."""
        self._telemetry = telemetry
        self._log = log
        self._turned = turned
        self._last_error = last_error
        self._seldom = Seldom(monotonic)

    def link_away(self) -> None:
        """Nothing is answered and nobody's lease ends until NATS is back."""
        self._telemetry.nats_lost()
        self._log.warning("nats.away", error=str(self._last_error()))
        self._turned(False)

    def link_back(self) -> None:
        """What was missed is found by each edge's next heartbeat."""
        self._log.info("nats.back")
        self._turned(True)

    def chunk_end(self) -> None:
        """Nothing waits for the end of a read."""

    def link_error(self, kind: str) -> None:
        """Count, and warn now and then."""
        self._telemetry.nats_error(kind)
        if self._seldom.allows(kind):
            self._log.warning("nats.error", kind=kind, error=str(self._last_error()))
