"""Buckets whose tokens are handed out in blocks and may come back (the generic cell rate algorithm). Pure.

The rule and the state are those of `token_bucket`: a bucket is the time at which it is full again, 0.0 is a full one. Times
are monotonic seconds of one clock. One that jumps back makes a bucket at most empty: nobody waits longer than it takes to
fill, and nothing is handed out twice.
"""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

import msgspec

from tidewire.kernel.token_bucket import ROUNDING

if TYPE_CHECKING:
    from tidewire.kernel.token_bucket import Allowance


class Granted(msgspec.Struct, frozen=True, gc=False):
    """The bucket's new state, how many tokens left it, and the seconds until there is one where there was none."""

    full_at: float
    tokens: int
    wait: float = 0.0


def settled(allowance: Allowance, full_at: float, now: float) -> float:
    """Return the state as it can be at `now`: no bucket takes longer to fill than an empty one."""
    return min(full_at, now + allowance.burst / allowance.rate + ROUNDING)


def grant(allowance: Allowance, full_at: float, now: float, wanted: int) -> Granted:
    """Take up to `wanted` whole tokens, as many as there are."""
    full_at = settled(allowance, full_at, now)
    there = floor(allowance.left(full_at, now) + ROUNDING * allowance.rate)
    tokens = max(0, min(wanted, there))
    if not tokens:
        return Granted(full_at, 0, allowance.take(full_at, now, 1)[1])
    return Granted(max(full_at, now) + tokens / allowance.rate, tokens)


def give_back(allowance: Allowance, full_at: float, tokens: int, age: float) -> float:
    """Return the state once `tokens`, none of which was taken more than `age` seconds ago, have come back unspent.

    What has been refilled since they were taken is not given a second time, so that the bucket is never fuller than if they
    had never left it.
    """
    worth = tokens / allowance.rate - max(0.0, age)
    return full_at - worth if worth > 0 else full_at
