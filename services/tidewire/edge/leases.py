"""Tokens that this edge holds of one rule, by key: spent without a call, and asked for before they are all spent. Pure.

Of each key there are two blocks at most, the one that is spent from and the next. A block is of use for the rule's lease
time, counted from when it was asked for. Keys that nobody uses are dropped, and what they had is given back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tidewire.edge.waiting import DOWN, UNKNOWN, Awaited, Key

if TYPE_CHECKING:
    from tidewire.options.rate_limit_rules import RateLimitRule

DOWN_SECONDS: Final = 1.0
"""For how long a key for which no replica had an answer is not asked for again."""
IDLE_LEAST: Final = 0.5
"""Seconds after which a key that nobody uses is dropped at the soonest."""
NEVER: Final = -1


class Lease(Awaited):
    """The blocks of one key. Slotted: there are many."""

    __slots__ = (
        "answered_at",
        "asked",
        "closed_until",
        "down_until",
        "key",
        "leases",
        "left",
        "mark",
        "next_left",
        "next_until",
        "owed",
        "until",
    )

    def __init__(self, leases: Leases, key: Key) -> None:
        super().__init__()
        self.leases = leases
        self.key = key
        self.left = 0
        self.until = 0.0
        self.next_left = 0
        self.next_until = 0.0
        self.mark = NEVER
        """With so many left the next block is asked for."""
        self.closed_until = 0.0
        """Until then there are no tokens, the service said."""
        self.down_until = 0.0
        self.answered_at = 0.0
        """When a replica last said anything of it."""
        self.asked = False
        self.owed = 0
        """Commands of a dry run that went on before it was known whether there was a token for them."""

    @property
    def wanted(self) -> int:
        """How many tokens to ask for."""
        return self.leases.size + self.owed

    def answered(self, tokens: int, wait: float, asked_at: float, now: float) -> None:
        """Take tokens that were asked for then; or, where there are none, the seconds until there is one."""
        self.asked = False
        paid = min(self.owed, tokens)
        self.leases.settled(paid, self.owed - paid)
        self.owed = 0
        self._take(tokens - paid, asked_at + self.leases.lease_time)
        self.closed_until = 0.0 if tokens else now + wait
        self.answered_at = now
        if tokens:
            self._serve()
        else:
            self.tell()

    def _serve(self) -> None:
        """Let those go on for whom there are tokens, in their order: all would crowd for a few.

        They spend them in their own time, which asks for more; one block more than that is asked for now.
        """
        free = self.left + self.next_left
        while self.waiters and free > 0:
            waiter = self.waiters.pop(0)
            free -= not waiter.ended
            waiter.told()
        if self.waiters and not (self.asked or self.next_left or self.leases.ask(self)):
            self.tell()

    def _take(self, tokens: int, until: float) -> None:
        if not tokens:
            return
        if self.left:
            self.next_left, self.next_until = tokens, until
        else:
            self.left, self.until, self.mark = tokens, until, self.leases.half

    def failed(self, now: float) -> None:
        """No replica answered."""
        self.asked = False
        self.leases.unjudged(self.owed)
        self.owed = 0
        self.down_until = now + DOWN_SECONDS
        self.tell()

    def turn(self, now: float) -> None:
        """Go on to the next block where the one at hand is spent or over."""
        if self.left and now < self.until:
            return
        self.left, self.until, self.mark = self.next_left, self.next_until, self.leases.half
        self.next_left = 0
        if self.left and now >= self.until:
            self.left = 0


class Leases:
    """The leases of one rule: at most `most` keys. `ask` begins to ask for tokens, and says whether anybody can be asked.

    `give_back` takes a key, tokens, and when they were asked for.
    """

    __slots__ = (
        "_ask",
        "_crowd",
        "_give_back",
        "_old",
        "_rotated",
        "_young",
        "allowed",
        "half",
        "idle",
        "lease_time",
        "most",
        "name",
        "refused",
        "size",
        "unknown",
        "would_be_refused",
    )

    def __init__(
        self,
        rule: RateLimitRule,
        most: int,
        ask: Callable[[Lease], bool],
        give_back: Callable[[Leases, Key, int, float], None],
    ) -> None:
        terms = rule.terms
        self.name = rule.name
        self.size = terms.lease_size
        self.half = self.size // 2
        self.lease_time = terms.lease_time
        self.idle = max(IDLE_LEAST, self.lease_time / 3)
        self.most = most
        self._ask = ask
        self._give_back = give_back
        self._young: dict[Key, Lease] = {}
        self._old: dict[Key, Lease] = {}
        self._rotated = 0.0
        self._crowd = most // 2
        """With so many keys since the last time those of before are dropped early."""
        self.allowed = 0
        """Commands for which there was a token; the others are those for which there was none, and for which nobody knew."""
        self.refused = 0
        self.would_be_refused = 0
        self.unknown = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def spend(self, key: Key, now: float) -> float:
        """Spend a token and return 0.0; or the seconds until there is one, UNKNOWN or DOWN."""
        lease = self._young.get(key)
        if lease is not None and lease.left and now < lease.until:
            lease.left = left = lease.left - 1
            self.allowed += 1
            if left <= lease.mark:
                self._ask_for_more(lease)
            return 0.0
        lease = self.find(key, now)
        verdict = self.peek(lease, 1, now)
        if not verdict:
            self.take(lease, 1)
        return verdict

    def find(self, key: Key, now: float) -> Lease:
        """Return the lease of a key, which may be a new one."""
        if now - self._rotated > self.idle or len(self._young) >= self._crowd:
            self.rotate(now)
        lease = self._young.get(key)
        if lease is None:
            lease = self._old.pop(key, None) or Lease(self, key)
            self._young[key] = lease
        return lease

    def peek(self, lease: Lease, cost: int, now: float) -> float:
        """Return 0.0 where so many tokens could be spent; otherwise see `spend`."""
        lease.turn(now)
        if lease.left >= cost:
            return 0.0
        if lease.left:  # fewer than all of them cost: who asks for one after the other gets these, and then the next block
            return UNKNOWN
        if now < lease.closed_until:
            return lease.closed_until - now
        if not lease.asked and (now < lease.down_until or not self.ask(lease)):
            return DOWN
        return UNKNOWN

    def take(self, lease: Lease, cost: int) -> None:
        """Spend what `peek` has seen at the same moment."""
        lease.left -= cost
        self.allowed += cost
        if lease.left <= lease.mark:
            self._ask_for_more(lease)

    def owe(self, lease: Lease) -> None:
        """Let a command of a dry run go on, and count it when it is known whether there was a token."""
        lease.owed += 1

    def _ask_for_more(self, lease: Lease) -> None:
        """Ask for the next block while there are tokens left."""
        lease.mark = NEVER
        if not lease.asked:
            self.ask(lease)

    def ask(self, lease: Lease) -> bool:
        """Ask for a block; False: nobody can be asked."""
        lease.asked = self._ask(lease)
        return lease.asked

    def settled(self, allowed: int, refused: int) -> None:
        """Count commands of a dry run."""
        self.allowed += allowed
        self.would_be_refused += refused

    def unjudged(self, commands: int) -> None:
        """Count commands that nobody could judge."""
        self.unknown += commands

    def look(self, now: float) -> None:
        """Drop what nobody uses, where it is time."""
        if now - self._rotated > self.idle:
            self.rotate(now)

    def rotate(self, now: float) -> None:
        """Drop the keys that nobody has used since the last time but those that somebody waits for, and give back what they had."""
        self._rotated = now
        dropped, self._old, self._young = self._old, self._young, {}
        for key, lease in dropped.items():
            if lease.waiters:
                self._young[key] = lease
            else:
                self._drop(lease, now)
        self._crowd = len(self._young) + self.most // 2

    def clear(self, now: float) -> None:
        """Give everything back: the rule is gone, or the edge ends."""
        leases = [*self._old.values(), *self._young.values()]
        self._old, self._young = {}, {}
        for lease in leases:
            self._drop(lease, now)
            lease.tell()

    def _drop(self, lease: Lease, now: float) -> None:
        for left, until in ((lease.left, lease.until), (lease.next_left, lease.next_until)):
            if left and now < until:
                self._give_back(self, lease.key, left, until - self.lease_time)
        lease.left = lease.next_left = 0
        self.unjudged(lease.owed)
        lease.owed = 0
