"""Places for connections that this edge holds of one rule, by user or address: asked for one by one, and given up again. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tidewire.edge.waiting import DOWN, UNKNOWN, Awaited

if TYPE_CHECKING:
    from tidewire.options.rate_limit_rules import ConnectionRule

FULL: Final = 1.0
"""For so many seconds a key that has all its places, or that nobody counts, is not asked for again."""


class Slot(Awaited):
    """The places of one key: how many are taken, and how many this edge may have."""

    __slots__ = ("asked", "down_until", "full_until", "granted", "held", "key", "learning", "slots")

    def __init__(self, slots: Slots, key: str) -> None:
        super().__init__()
        self.slots = slots
        self.key = key
        self.held = 0
        self.granted = 0
        self.full_until = 0.0
        self.down_until = 0.0
        self.asked = False
        self.learning = False
        """Nobody can say yet whether there is a place."""

    @property
    def wanted(self) -> int:
        """What to ask for: a place more for each that waits."""
        self.waiters = [waiter for waiter in self.waiters if not waiter.ended]
        return self.held + len(self.waiters)

    @property
    def spare(self) -> bool:
        """Whether it has places that nobody needs."""
        return self.granted > self.wanted

    def say(self) -> int:
        """Return how many to ask for. What is more than that is given up at once: who comes meanwhile waits for the answer."""
        wanted = self.wanted
        self.granted = min(self.granted, wanted)
        return wanted

    def answered(self, granted: int, asked: int, now: float, *, learning: bool, over: bool) -> None:
        """Take what the service said where so many were `asked` for: by now more may be wanted.

        `over`: more is held here and elsewhere than the rule allows.
        """
        self.asked = False
        if over and self.slots.rule.dry_run:
            self.slots.would_be_refused += max(0, self.held - self.granted)
        self.learning = learning
        self.granted = granted
        if learning:
            return
        if granted < asked:
            self.full_until = now + FULL
        self.tell()

    def uncounted(self, now: float) -> None:
        """Take it that the replica has no such rule."""
        self.asked = False
        self.granted = self.held
        self.down_until = now + FULL
        self.tell()

    def failed(self) -> None:
        """No replica answered."""
        self.asked = False
        self.tell()
        if not self.held:
            self.granted = 0
            self.slots.forget(self)


class Slots:
    """The places of one rule: as many keys as there are connections. `ask` says whether anybody can be asked."""

    __slots__ = (
        "_ask",
        "_by_key",
        "allowed",
        "denied",
        "limit",
        "name",
        "passed",
        "refused",
        "rule",
        "would_be_refused",
    )

    def __init__(self, rule: ConnectionRule, ask: Callable[[Slot], bool]) -> None:
        self.rule = rule
        self.name = rule.name
        self.limit = rule.limit
        self._ask = ask
        self._by_key: dict[str, Slot] = {}
        self.allowed = self.refused = self.would_be_refused = 0
        self.passed = self.denied = 0
        """Connections that were let in, and refused, since nobody could count."""

    def __len__(self) -> int:
        return len(self._by_key)

    def all(self) -> list[Slot]:
        """Return every slot."""
        return list(self._by_key.values())

    def peek(self, key: str, now: float) -> tuple[Slot, float]:
        """Return the slot, and 0.0 where it has a place; the seconds for which it will have none, UNKNOWN or DOWN."""
        slot = self._by_key.get(key) or Slot(self, key)
        if slot.granted > slot.held:
            return slot, 0.0
        if now < slot.full_until:
            return slot, slot.full_until - now
        if now < slot.down_until:
            return slot, DOWN
        if not slot.asked:
            slot.asked = self._ask(slot)
        if not slot.asked:
            return slot, DOWN
        self._by_key[key] = slot
        return slot, UNKNOWN

    def is_full(self, key: str, now: float) -> bool:
        """Return whether it is known that there is no place."""
        slot = self._by_key.get(key)
        return slot is not None and slot.held >= slot.granted and now < slot.full_until

    def take(self, slot: Slot) -> None:
        """A connection takes a place, also where it was let in without one."""
        slot.held += 1
        self._by_key[slot.key] = slot
        if slot.held > slot.granted and not slot.asked:
            slot.asked = self._ask(slot)

    def leave(self, slot: Slot) -> None:
        """A connection is gone: its place is given up soon."""
        slot.held -= 1
        if not slot.asked:
            slot.asked = self._ask(slot)
        if not slot.asked:
            slot.failed()

    def forget(self, slot: Slot) -> None:
        """Drop a slot of which nothing is held, wanted or granted."""
        idle = not (slot.held or slot.granted or slot.waiters or slot.asked)
        if idle and self._by_key.get(slot.key) is slot:
            del self._by_key[slot.key]
