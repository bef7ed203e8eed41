"""The edge's one timer: it turns the wheels, and measures how late the loop and how far NATS is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tidewire.edge.timers import TICK
from tidewire.platform.nats_types import LinkError

if TYPE_CHECKING:
    from tidewire.edge.nats_telemetry import NatsTelemetry
    from tidewire.platform.nats_link import NatsLink

TICKS_PER_ROUND_TRIP = 10
ROUND_TRIP_TIMEOUT = 2.0


class Ticker:
    """Calls `wheels` every TICK seconds while it runs."""

    def __init__(
        self,
        wheels: Sequence[Callable[[], None]],
        late: Sequence[Callable[[float], None]],
        nats: NatsTelemetry,
        link: NatsLink,
        monotonic: Callable[[], float],
    ) -> None:
        """`late` hear by how many seconds each tick is late."""
        self._wheels = wheels
        self._late = late
        self._nats = nats
        self._link = link
        self._monotonic = monotonic
        self._ticks = 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to tick."""
        self._due = self._monotonic() + TICK
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        now = self._monotonic()
        lag = max(0.0, now - self._due)
        for hear in self._late:
            hear(lag)
        self.start()
        for turn in self._wheels:
            turn()
        self._ticks += 1
        if self._ticks % TICKS_PER_ROUND_TRIP == 0:
            self._measure(now)

    def _measure(self, began: float) -> None:
        def answered(confirmed: bool) -> None:
            if confirmed:
                self._nats.nats_round_trip(self._monotonic() - began)

        try:
            self._link.barrier(answered, ROUND_TRIP_TIMEOUT)
        except LinkError:
            return  # the disconnect is counted where it is noticed
