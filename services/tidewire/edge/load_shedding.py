"""Which handshakes an edge refuses whatever they say: of an address that has enough, and while there is too much to do. Pure."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tidewire.edge.addresses import Addresses
from tidewire.edge.fair_rate import FairRate
from tidewire.edge.handshake import RETRY_AFTER, Refuse
from tidewire.edge.loop_lag import LoopLag

if TYPE_CHECKING:
    from tidewire.edge.gate import Limits

RETRY_SPREAD = 8
"""Seconds over which those who are refused are told to come back: not all at once again."""


class LoadShedder:
    """Judges by what is known already. The cheapest question comes first, and an address that is refused takes no token."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, uniform: Callable[[], float] = random.random
    ) -> None:
        """`uniform` is a random number from 0 to 1."""
        self.addresses = Addresses()
        self.lag = LoopLag()
        self._monotonic = monotonic
        self._uniform = uniform
        self._rate = FairRate()

    def refusal(self, address: str, limits: Limits, *, full_elsewhere: bool = False) -> Refuse | None:
        """Return the answer to a handshake that is refused; `full_elsewhere`: the address has enough over all edges."""
        if full_elsewhere:
            return self._later(429, "address_limit", "Your address has all the connections it may have.")
        if limits.address_connections and self.addresses.connections(address) >= limits.address_connections:
            return self._later(429, "address_limit", "Your address has all the connections it may have.")
        if limits.max_loop_lag and self.lag.seconds > limits.max_loop_lag:
            return self.overloaded()
        rate = limits.connection_rate
        if rate is not None and not self._rate.take(address, rate, self._monotonic()):
            return self._later(503, "connection_rate", "Too many clients come at once; try again.")
        return None

    def overloaded(self) -> Refuse:
        """Return the answer to a handshake whose turn does not come in time."""
        return self._later(503, "overload", "This edge is overloaded; try again.")

    def _later(self, status: int, outcome: str, sentence: str) -> Refuse:
        return Refuse(status, outcome, sentence, RETRY_AFTER + int(RETRY_SPREAD * self._uniform()))
