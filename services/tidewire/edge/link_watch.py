"""What the edge does when something happens to its NATS link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from tidewire.kernel.seldom import Seldom

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.nats_telemetry import NatsTelemetry


class LinkWatch:
    """Implements `platform.nats_types.LinkListener`. It warns once a minute of a kind; the metrics count every case."""

    def __init__(
        self, telemetry: NatsTelemetry, log: FilteringBoundLogger, monotonic: Callable[[], float]
    ) -> None:
        self._telemetry = telemetry
        self._log = log
        self._flush: Callable[[], None] = _nothing
        self._check: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._last_error: Callable[[], Exception | None] = _no_error
        self._checking: asyncio.Task[None] | None = None
        self._seldom = Seldom(monotonic)

    def bind(
        self,
        flush: Callable[[], None],
        check: Callable[[], Coroutine[Any, Any, None]],
        last_error: Callable[[], Exception | None],
    ) -> None:
        """Say what follows each read, what checks a node after a reconnect, and what the link's newest error is."""
        self._flush = flush
        self._check = check
        self._last_error = last_error

    def link_away(self) -> None:
        """Clients stay; publishers get a temporary error until the link is back."""
        self._telemetry.nats_lost()
        self._log.warning("nats.away", error=str(self._last_error()))

    def link_back(self) -> None:
        """Check the node behind the new connection."""
        self._log.info("nats.back")
        if self._checking is not None:
            self._checking.cancel()
        if self._check is not None:
            self._checking = asyncio.ensure_future(self._check())

    def chunk_end(self) -> None:
        """Fan out what one read brought."""
        self._flush()

    def link_error(self, kind: str) -> None:
        """Count, and warn now and then."""
        self._telemetry.nats_error(kind)
        self._warn("nats.error", kind=kind, error=str(self._last_error()))

    def unmapped(self) -> None:
        """A publication came from a NATS node without the mapping."""
        self._telemetry.unmapped()
        self._warn(
            "nats.unmapped_node", problem="a nats-server lacks the mapping of tw.pub.>; edges stand in for it"
        )

    def unmapped_lost(self, error: Exception) -> None:
        """A publication from such a node could not be put right."""
        self._telemetry.unmapped_lost()
        self._warn("nats.unmapped_lost", error=str(error))

    def _warn(self, event: str, **fields: str) -> None:
        if self._seldom.allows(event + fields.get("kind", "")):
            self._log.warning(event, **fields)


def _nothing() -> None:
    """Stand in until the hub is there."""


def _no_error() -> None:
    """Stand in until the link is there."""
