"""The deadlines of connections, on wheels that one timer drives: nothing is scheduled per connection."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

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


class Timers:
    """One wheel for each kind of timer; a connection has at most one deadline of a kind."""

    __slots__ = ("_wheels",)

    def __init__(self) -> None:
        self._wheels: tuple[Wheel[Connection], ...] = tuple(Wheel() for _ in Timer)

    def set(self, connection: Connection, timer: Timer, seconds: float) -> None:
        """Make `timer` due in `seconds`, instead of when it was due before."""
        wheel = self._wheels[timer]
        wheel.discard(connection, connection.due[timer])
        connection.due[timer] = wheel.add(connection, math.ceil(seconds / TICK))

    def clear(self, connection: Connection) -> None:
        """Forget every deadline of a connection."""
        for timer, wheel in enumerate(self._wheels):
            wheel.discard(connection, connection.due[timer])

    def advance(self) -> Iterator[tuple[Timer, Connection]]:
        """Turn the wheels by one tick and yield what is due."""
        turned = [(timer, self._wheels[timer].advance()) for timer in Timer]
        for timer, connections in turned:  # whoever sets a timer now counts from this tick on every wheel
            for connection in connections:
                yield timer, connection
