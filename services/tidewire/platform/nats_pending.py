"""Calls that wait for an answer: numbered, bounded, and with deadlines that one timer can sweep."""

from __future__ import annotations

from typing import Generic, TypeVar

from tidewire.platform.nats_types import LinkFull

TICKS_PER_SECOND = 10
"""Deadlines are kept in steps of 100 ms, so that a sweep costs as much as what is due, not as what waits."""

Call = TypeVar("Call")


class PendingCalls(Generic[Call]):
    """Holds callbacks under numbers that never come back; each leaves by `take`, `due` or `drain`, once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: dict[int, tuple[Call, int]] = {}
        self._ticks: dict[int, set[int]] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: Call, deadline: float, *, limited: bool = True) -> int:
        """Hold `call` until `deadline` (seconds of the clock that `due` is given) and return its number.

        Raises:
            LinkFull: The limit is reached, and `limited` is not False.
        """
        if limited and len(self._calls) >= self._limit:
            raise LinkFull(f"{self._limit} calls wait for an answer of NATS already")
        self._last = number = self._last + 1
        tick = int(deadline * TICKS_PER_SECOND) + 1
        self._calls[number] = (call, tick)
        numbers = self._ticks.get(tick)
        if numbers is None:
            self._ticks[tick] = {number}
        else:
            numbers.add(number)
        return number

    def find(self, number: int) -> Call | None:
        """Return the call of this number, which stays; None when it has left before."""
        entry = self._calls.get(number)
        return None if entry is None else entry[0]

    def take(self, number: int) -> Call | None:
        """Return the call of this number and forget it; None when it has left before."""
        entry = self._calls.pop(number, None)
        if entry is None:
            return None
        call, tick = entry
        numbers = self._ticks[tick]
        numbers.discard(number)
        if not numbers:
            del self._ticks[tick]
        return call

    def due(self, now: float) -> list[Call]:
        """Return and forget the calls whose deadline has passed, at most 100 ms after it, oldest first."""
        current = int(now * TICKS_PER_SECOND)
        numbers = [
            number
            for tick in sorted(t for t in self._ticks if t <= current)
            for number in sorted(self._ticks[tick])
        ]
        return [call for number in numbers if (call := self.take(number)) is not None]

    def drain(self) -> list[Call]:
        """Return and forget all calls, oldest first."""
        calls = [call for call, _ in self._calls.values()]
        self._calls.clear()
        self._ticks.clear()
        return calls
