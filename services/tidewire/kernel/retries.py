"""Whether a call that failed is made once more, and after what pause: a budget that all calls of a client share. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

import msgspec

ASIDE: Final = 0.004
"""Seconds before another replica is asked, at most."""
ROUNDING: Final = 1e-9
"""What sums of many fractions may lack of a whole retry."""


MOST_MOVES: Final = 16
"""Replicas that a call is passed on to, one after the other, where each says that another one serves it."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """At most `attempts` for a call, the first included; retries are at most `ratio` of calls, and `burst` at once.

    The pause before retry n is random between 0 and `pause * 2**(n-1)` seconds, `longest_pause` at most.
    """

    attempts: int
    ratio: float
    burst: float
    pause: float
    longest_pause: float


class NoRetry(enum.Enum):
    """Why there is no further attempt."""

    ATTEMPTS = "attempts"
    BUDGET = "budget"
    DEADLINE = "deadline"


class Retries:
    """The retries of one client. `random` gives numbers from 0 to 1."""

    __slots__ = ("_policy", "_random", "_tokens")

    def __init__(self, policy: RetryPolicy, random: Callable[[], float]) -> None:
        """Begin with a full budget."""
        self._policy = policy
        self._random = random
        self._tokens = policy.burst

    def aside(self) -> float:
        """Return the seconds to wait before another replica is asked: calls in step would all find the wrong one again."""
        return self._random() * ASIDE

    def called(self) -> None:
        """Note a call (not an attempt): it pays for its part of a retry."""
        self._tokens = min(self._tokens + self._policy.ratio, self._policy.burst)

    def pause(self, attempt: int, left: float) -> float | NoRetry:
        """Return the seconds to wait after failed attempt number `attempt` (from 1), `left` seconds before the deadline."""
        policy = self._policy
        if attempt >= policy.attempts:
            return NoRetry.ATTEMPTS
        pause = self._random() * min(policy.pause * 2.0 ** (attempt - 1), policy.longest_pause)
        if pause >= left:
            return NoRetry.DEADLINE
        if self._tokens < 1 - ROUNDING:
            return NoRetry.BUDGET
        self._tokens -= 1
        return pause
