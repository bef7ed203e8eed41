"""The buckets of one rule. Pure: a number for each key, and none for full buckets."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final

from tidewire.kernel import gcra

if TYPE_CHECKING:
    from tidewire.kernel.gcra import Granted
    from tidewire.kernel.token_bucket import Allowance

FORGOTTEN_AT_ONCE: Final = 64
"""Buckets that are forgotten together where there are too many: to find the oldest costs a walk."""
SWEPT_AT_ONCE: Final = 10_000


class Buckets:
    """At most `most` of them, the one that was used longest ago first."""

    __slots__ = ("_full_at", "allowance", "forgotten", "most")

    def __init__(self, allowance: Allowance, most: int) -> None:
        self.allowance = allowance
        self.most = most
        self.forgotten = 0
        """Buckets that were dropped before they were full."""
        self._full_at: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def grant(self, key: bytes, now: float, wanted: int) -> Granted:
        """Take up to `wanted` tokens."""
        granted = gcra.grant(self.allowance, self._full_at.pop(key, 0.0), now, wanted)
        self._keep(key, granted.full_at, now)
        return granted

    def give_back(self, key: bytes, tokens: int, age: float) -> None:
        """Put back tokens that left the bucket at most `age` seconds ago."""
        full_at = self._full_at.get(key)
        if full_at is not None:
            self._full_at[key] = gcra.give_back(self.allowance, full_at, tokens, age)

    def take(self, key: bytes, now: float, cost: int) -> float:
        """Take so many tokens or none; return the seconds until there are so many, 0.0 where they were taken."""
        state = gcra.settled(self.allowance, self._full_at.pop(key, 0.0), now)
        full_at, wait = self.allowance.take(state, now, cost)
        self._keep(key, full_at, now)
        return wait

    def put_back(self, key: bytes, cost: int) -> None:
        """Undo a `take` of this moment."""
        self.give_back(key, cost, 0.0)

    def left(self, key: bytes, now: float) -> tuple[float, float]:
        """Return the tokens that are there, and the seconds until the bucket is full."""
        full_at = gcra.settled(self.allowance, self._full_at.get(key, 0.0), now)
        return max(0.0, self.allowance.left(full_at, now)), max(0.0, full_at - now)

    def sweep(self, now: float) -> None:
        """Drop full buckets from the front. All that stand there were used before the others, and are full about as soon."""
        first = islice(self._full_at.items(), SWEPT_AT_ONCE)
        for key in [key for key, _ in takewhile(lambda item: item[1] <= now, first)]:
            del self._full_at[key]

    def _keep(self, key: bytes, full_at: float, now: float) -> None:
        if full_at <= now:
            return
        if len(self._full_at) >= self.most:
            self._make_room(now)
        self._full_at[key] = full_at

    def _make_room(self, now: float) -> None:
        """Forget those that were used longest ago; most of them are nearly full."""
        many = max(1, min(FORGOTTEN_AT_ONCE, self.most // 10))
        for key in list(islice(self._full_at, many)):
            self.forgotten += self._full_at.pop(key) > now
