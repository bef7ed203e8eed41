"""The deadlines of connections, on wheels that one timer drives: nothing is scheduled per connection."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from tidewire.kernel.wheel import Wheel

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection

TICK = 0.1
"""Seconds between two turns of the wheels: the precision of every deadline."""


class Timer(enum.IntEnum):
    """What may become due for a connection."""

    STALE = 0
    PING = 1
    PONG = 2
    EXPIRY = 3
    SUBSCRIPTIONS = 4


class Timing(msgspec.Struct, frozen=True):
    """Seconds: pings go out every `ping`, are answered within `pong`; authentication is over within `stale`."""

    ping: float
    pong: float
    stale: float


class Timers:
    """One wheel for each kind of timer; a connection has at most one deadline of a kind.

    `timing` may change at any time, for deadlines to come. `draw` gives numbers from 0 to 1.
    """

    __slots__ = ("_draw", "_wheels", "timing")

    def __init__(self, timing: Timing, draw: Callable[[], float]) -> None:
        self.timing = timing
        self._draw = draw
        self._wheels: tuple[Wheel[Connection], ...] = tuple(Wheel() for _ in Timer)

    def opened(self, connection: Connection) -> None:
        """The client has a time to authenticate in."""
        self.set(connection, Timer.STALE, self.timing.stale)

    def authenticated(self, connection: Connection) -> None:
        """The first ping comes early, at a time of its own: who connected together is not pinged together."""
        self.set(connection, Timer.PING, self.timing.ping * (1 + self._draw()) / 2)

    def ping_again(self, connection: Connection) -> None:
        """The next ping comes an interval later."""
        self.set(connection, Timer.PING, self.timing.ping)

    def pinged(self, connection: Connection) -> None:
        """The pong has its time."""
        self.set(connection, Timer.PONG, self.timing.pong)

    def set(self, connection: Connection, timer: Timer, seconds: float) -> None:
        """Make `timer` due in `seconds`, instead of when it was due before."""
        wheel = self._wheels[timer]
        if connection.due[timer]:
            wheel.discard(connection, connection.due[timer])
        connection.due[timer] = wheel.add(connection, math.ceil(seconds / TICK))

    def clear(self, connection: Connection) -> None:
        """Forget every deadline of a connection."""
        for due, wheel in zip(connection.due, self._wheels, strict=True):
            if due:
                wheel.discard(connection, due)

    def advance(self) -> list[tuple[Timer, Connection]]:
        """Turn the wheels by one tick and return what is due: whoever sets a timer then counts from the new tick."""
        return [(timer, connection) for timer in Timer for connection in self._wheels[timer].advance()]
