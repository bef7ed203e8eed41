"""A clock that moves when told."""

from __future__ import annotations


class ManualClock:
    """Monotonic and wall time, both in seconds."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self.now = 1000.0
        self.epoch = wall
        self.costs = 0.0
        """Seconds that pass with each look at the monotonic time."""

    def monotonic(self) -> float:
        self.now += self.costs
        return self.now

    def wall(self) -> float:
        return self.epoch

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.epoch += seconds
