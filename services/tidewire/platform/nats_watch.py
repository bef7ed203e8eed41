"""A service's link to NATS, with what is counted and logged of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tidewire.kernel.seldom import Seldom
from tidewire.platform.lifecycle import StartError
from tidewire.platform.metrics import Counter, Gauge, Total
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_metrics import link_metrics
from tidewire.platform.nats_types import LinkError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.platform.nats_types import LinkOptions


def _nothing() -> None:
    """Nothing waits for the end of a read."""


class WatchedLink:
    """Has a link, and implements `nats_types.LinkListener` for it. Errors are warned of once a minute of a kind, and all counted.

    `turned` hears whether NATS is there, whenever that changes; `chunk_end` is called behind each read.
    """

    def __init__(
        self,
        options: LinkOptions,
        log: FilteringBoundLogger,
        monotonic: Callable[[], float],
        turned: Callable[[bool], None],
        chunk_end: Callable[[], None] = _nothing,
    ) -> None:
        """Prepare; nothing is connected yet. Raises StartError: a URL or a TLS file cannot be used."""
        self._log = log
        self._turned = turned
        self._seldom = Seldom(monotonic)
        self._errors = Counter(
            "tidewire_nats_errors",
            "Trouble on the NATS connection that left it alive: permissions, slow_consumer, callback, other.",
            ["kind"],
        )
        self._lost = Counter("tidewire_nats_disconnects", "Times that the connection to NATS was lost.")
        self.chunk_end = chunk_end
        try:
            self.link = NatsLink(options, self)
        except LinkError as error:
            raise StartError(str(error)) from error

    def metrics(self) -> Iterator[Counter | Gauge | Total]:
        """Return what to expose of the link."""
        yield self._errors
        yield self._lost
        yield from link_metrics(self.link)

    def link_away(self) -> None:
        """Count it, say so, and hand it on."""
        self._lost.inc()
        self._log.warning("nats.away", error=str(self.link.last_error))
        self._turned(False)

    def link_back(self) -> None:
        """Say so, and hand it on."""
        self._log.info("nats.back")
        self._turned(True)

    def link_error(self, kind: str) -> None:
        """Count, and warn now and then."""
        self._errors.inc(1, (kind,))
        if self._seldom.allows(kind):
            self._log.warning("nats.error", kind=kind, error=str(self.link.last_error))
