"""By how much a rate limit may be exceeded, stated before anybody tries. Pure.

A rule says: over any window of W seconds at most `burst + rate * W`. Tokens are handed to edges in leases, so that what is
spent in a window may have been taken from the bucket up to `lease_time` before it; and a bucket that begins anew is full.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from tidewire.kernel.token_bucket import Allowance

BLOCKS: Final = 2
"""Leases of one key that an edge holds at once: the one it spends from, and the next."""


class Terms(msgspec.Struct, frozen=True):
    """A rule, and how its tokens are leased: `lease_size` at once, to be spent within `lease_time` seconds."""

    allowance: Allowance
    lease_size: int
    lease_time: float


def lease_excess(terms: Terms, edges: int = 0) -> int:
    """Return the tokens that leases may add to a window: all that `edges` hold at once (0: any number of edges).

    Nobody spends a token later than `lease_time` after it was taken, so that they are never more than what comes into the
    bucket in that time.
    """
    flows = ceil(terms.allowance.rate * terms.lease_time)
    return min(flows, BLOCKS * terms.lease_size * edges) if edges else flows


def excess(terms: Terms, edges: int = 0, anew: int = 0) -> int:
    """Return B: how much more than the rule may be spent over any window, in which `anew` buckets of the key began anew.

    One begins anew where its replica was started again, where the key moved to another replica or back, and where the map of
    buckets was full and it was forgotten.
    """
    return lease_excess(terms, edges) + anew * ceil(terms.allowance.burst)
