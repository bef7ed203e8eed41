"""A timer wheel: deadlines for very many items, all driven by one timer.

Time on the wheel is counted in ticks and moves on by exactly one for each `advance`. If the process was stopped or late,
the deadlines are late by as much: peers whose answers wait unread in the socket are not punished for our own pause.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Item = TypeVar("Item")


class Wheel(Generic[Item]):
    """Items by the tick on which they are due. Add and remove cost O(1); nothing is kept for what was removed."""

    __slots__ = ("_count", "_slots", "now")

    def __init__(self) -> None:
        self.now = 0
        self._count = 0
        self._slots: dict[int, dict[Item, None]] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, item: Item, ticks: int) -> int:
        """Make `item` due in `ticks` (at least 1) and return the tick, which `discard` takes."""
        due = self.now + max(1, ticks)
        slot = self._slots.setdefault(due, {})
        self._count += item not in slot
        slot[item] = None
        return due

    def discard(self, item: Item, due: int) -> None:
        """Forget `item`, due at tick `due`; unknown items are ignored."""
        slot = self._slots.get(due)
        if slot is not None:
            if item in slot:
                del slot[item]
                self._count -= 1
            if not slot:
                del self._slots[due]

    def advance(self) -> list[Item]:
        """Move on by one tick and return what is due."""
        self.now += 1
        due = list(self._slots.pop(self.now, ()))
        self._count -= len(due)
        return due
