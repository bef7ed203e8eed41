"""Time as a value that is passed in, so that pure code never asks the machine for it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time."""

    def monotonic(self) -> float:
        """Return seconds that never go back, for durations and deadlines."""

    def wall(self) -> float:
        """Return seconds since the Unix epoch, for tokens and time stamps."""


class SystemClock:
    """The machine's own clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
