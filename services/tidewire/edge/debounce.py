"""Joins and leaves of one channel without those of users who are back at once. Pure.

A leave is held for a while. The next join of its user takes it over instead of being told: when that client leaves for good
its own leave is told, and all that it took over, so that whoever keeps clients by their id is left with none too many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tidewire.kernel.presence_wire import Event

LONGEST_CHAIN: Final = 16
"""Leaves that one client takes over; with more they are told, and so is its join."""
LOOKED_AT: Final = 128
"""Held leaves of a user among which a client's own is looked for."""


class _Held:
    """Leaves that wait for a join of their user, and until when."""

    __slots__ = ("due", "leaves")

    def __init__(self, due: float, leaves: Sequence[Event]) -> None:
        self.due = due
        self.leaves: Sequence[Event] = leaves


class Debounce:
    """Holds leaves back. Times are monotonic seconds."""

    __slots__ = ("_by_user", "_queue", "_successors")

    def __init__(self) -> None:
        self._queue: deque[_Held] = deque()
        self._by_user: dict[str, deque[_Held]] = {}
        self._successors: dict[str, Sequence[Event]] = {}
        """What a client's leave brings along, by client id."""

    @property
    def kept(self) -> int:
        """How many leaves are kept, those of successors too; about, since what was taken over is counted until it was due."""
        return len(self._queue) + len(self._successors)

    def join(self, event: Event) -> Iterator[Event]:
        """Take a join, and return what is to be told."""
        waiting = self._by_user.get(event.user) if event.user else None
        if not waiting:
            yield event
            return
        held = _own_or_oldest(waiting, event.client)
        waiting.remove(held)
        if not waiting:
            del self._by_user[event.user]
        leaves, held.leaves = held.leaves, ()
        leaves = tuple(leave for leave in leaves if leave.client != event.client)
        if len(leaves) < LONGEST_CHAIN:
            if leaves:
                self._successors[event.client] = leaves
            return
        yield from leaves
        yield event

    def leave(self, event: Event, due: float) -> Iterator[Event]:
        """Take a leave, which is held until `due` (0: not at all), and return what is to be told."""
        leaves = (*self._successors.pop(event.client, ()), event)
        if not due or not event.user:
            yield from leaves
            return
        held = _Held(due, leaves)
        self._queue.append(held)
        self._by_user.setdefault(event.user, deque()).append(held)

    def overdue(self, now: float) -> Iterator[Event]:
        """Return the leaves whose time is over."""
        while self._queue and (not self._queue[0].leaves or self._queue[0].due <= now):
            held = self._queue.popleft()
            if not held.leaves:
                continue
            user = held.leaves[-1].user
            waiting = self._by_user[user]
            waiting.remove(held)
            if not waiting:
                del self._by_user[user]
            yield from held.leaves


def _own_or_oldest(waiting: deque[_Held], client: str) -> _Held:
    """Return the leave of a client that comes back itself, if it is among the first, else the one that is due first."""
    first = islice(waiting, LOOKED_AT)
    return next((held for held in first if held.leaves[-1].client == client), waiting[0])
