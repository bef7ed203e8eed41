"""What an attack is: a row of a table. Each runs against a real edge beside a neighbour (tests/e2e/test_attacks.py)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable

import msgspec

from tests.support.edges import Metrics
from tests.support.foe import Foe

PATIENCE = 30.0
"""Seconds within which the edge must have ended every socket of an attack."""

Act = Callable[[Foe], Awaitable[object]]
"""What one socket does, from before it is opened. It may end with ConnectionError, when the edge has had enough."""


class Count(msgspec.Struct, frozen=True):
    """A metric that must have grown by 1 for each socket."""

    metric: str
    labels: dict[str, str]

    def grown(self, before: Metrics, after: Metrics) -> float:
        """Return by how much it has grown."""
        return after.value(self.metric, **self.labels) - before.value(self.metric, **self.labels)


def refused(outcome: str) -> Count:
    """Handshakes that ended so."""
    return Count("tidewire_handshakes_total", {"outcome": outcome})


def closed(code: int) -> Count:
    """Connections that ended with this code."""
    return Count("tidewire_connections_closed_total", {"code": str(code)})


class Attack(msgspec.Struct, frozen=True):
    """`crowd` sockets at once do what `act` says; each then sees `ending`, and the edge has `counted` it."""

    name: str
    act: Act
    ending: str
    counted: Count
    crowd: int = 20

    async def run(self, port: int) -> Counter[str]:
        """Return how the sockets were ended, and how many so. Raises TimeoutError when the edge ends them not."""
        foes = [Foe(port) for _ in range(self.crowd)]
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*map(self._fight, foes))
        finally:
            for foe in foes:
                foe.vanish()
        return Counter(foe.ending for foe in foes)

    async def _fight(self, foe: Foe) -> None:
        with contextlib.suppress(ConnectionError):
            await self.act(foe)
        await foe.gone.wait()
