"""The buckets of one rule. Pure: a number for each key, and none for full buckets."""

from __future__ import annotations

from heapq import nsmallest
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from tidewire.kernel import gcra

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tidewire.kernel.gcra import Granted
    from tidewire.kernel.token_bucket import Allowance

_K = TypeVar("_K", bound="Hashable")
FORGOTTEN_AT_ONCE: Final = 64
"""Buckets that are forgotten together where there are too many: to find the fullest costs a walk."""
LOOKED_AT: Final = 1000
"""Buckets among which full ones are looked for, and the fullest."""
MOST_LOOKS: Final = 10
WORTHWHILE: Final = LOOKED_AT // 4
"""With so many full ones among them a sweep goes on."""


class Buckets(Generic[_K]):
    """At most `most` of them, the one that was used or looked at longest ago first."""

    __slots__ = ("_full_at", "allowance", "forgotten", "most")

    def __init__(self, allowance: Allowance, most: int) -> None:
        self.allowance = allowance
        self.most = most
        self.forgotten = 0
        """Buckets that were dropped before they were full."""
        self._full_at: dict[_K, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def grant(self, key: _K, now: float, wanted: int) -> Granted:
        """Take up to `wanted` tokens."""
        granted = gcra.grant(self.allowance, self._full_at.pop(key, 0.0), now, wanted)
        self._keep(key, granted.full_at, now)
        return granted

    def give_back(self, key: _K, tokens: int, age: float) -> None:
        """Put back tokens that left the bucket at most `age` seconds ago."""
        full_at = self._full_at.get(key)
        if full_at is not None:
            self._full_at[key] = gcra.give_back(self.allowance, full_at, tokens, age)

    def take(self, key: _K, now: float, cost: int) -> float:
        """Take so many tokens or none; return the seconds until there are so many, 0.0 where they were taken."""
        state = gcra.settled(self.allowance, self._full_at.pop(key, 0.0), now)
        full_at, wait = self.allowance.take(state, now, cost)
        self._keep(key, full_at, now)
        return wait

    def put_back(self, key: _K, cost: int) -> None:
        """Undo a `take` of this moment."""
        self.give_back(key, cost, 0.0)

    def left(self, key: _K, now: float) -> tuple[float, float]:
        """Return the tokens that are there, and the seconds until the bucket is full."""
        full_at = gcra.settled(self.allowance, self._full_at.get(key, 0.0), now)
        return max(0.0, self.allowance.left(full_at, now)), max(0.0, full_at - now)

    def sweep(self, now: float) -> None:
        """Drop full buckets, as far as it is worth while: one that takes long to fill is in nobody's way."""
        for _ in range(MOST_LOOKS):
            if self._sweep_some(now) < WORTHWHILE:
                return

    def _sweep_some(self, now: float) -> int:
        """Drop the full ones of those at the front, and move the others to the back; return how many were full."""
        before = len(self._full_at)
        for key, full_at in list(islice(self._full_at.items(), LOOKED_AT)):
            del self._full_at[key]
            if full_at > now:
                self._full_at[key] = full_at
        return before - len(self._full_at)

    def _keep(self, key: _K, full_at: float, now: float) -> None:
        if full_at <= now:
            return
        if len(self._full_at) >= self.most:
            self._make_room(now)
        self._full_at[key] = full_at

    def _make_room(self, now: float) -> None:
        """Forget the fullest of those at the front: they have the least to be spent once more."""
        many = max(1, min(FORGOTTEN_AT_ONCE, self.most // 10))
        for key, full_at in nsmallest(many, islice(self._full_at.items(), LOOKED_AT), key=itemgetter(1)):
            del self._full_at[key]
            self.forgotten += full_at > now
