"""Token buckets: so many a second, and so many at once. Pure. Times are monotonic seconds."""

from __future__ import annotations

from typing import Final

import msgspec

ROUNDING: Final = 1e-6
"""Seconds that sums of many fractions may be wrong by: nobody is refused for them."""


class Allowance(msgspec.Struct, frozen=True):
    """`rate` a second, and `burst` at once: the rule of a bucket, whose state is the time at which it is full again.

    Who has very many buckets keeps that one number for each (the generic cell rate algorithm); 0.0 is a full one.
    """

    rate: float
    burst: float

    def take(self, full_at: float, now: float, cost: float = 1) -> tuple[float, float]:
        """Return the state once `cost` is taken, and 0.0; or the state as it was, and the seconds until there is so much."""
        after = max(full_at, now) + cost / self.rate
        wait = after - now - self.burst / self.rate
        return (full_at, wait) if wait > ROUNDING else (after, 0.0)

    def left(self, full_at: float, now: float) -> float:
        """Return how much could be taken now."""
        return self.burst - max(full_at - now, 0.0) * self.rate


class TokenBucket:
    """One bucket that keeps its state: it holds a second's worth."""

    __slots__ = ("_allowance", "_full_at")

    def __init__(self, rate: float) -> None:
        """Begin full."""
        self._allowance = Allowance(rate, rate)
        self._full_at = 0.0

    def take(self, now: float) -> bool:
        """Take a token; False where there is none."""
        self._full_at, wait = self._allowance.take(self._full_at, now)
        return not wait
