"""Reads of history, as many at once as do some good; the others wait in line, up to a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tidewire.kernel import errors

if TYPE_CHECKING:
    from tidewire.edge.ports import History, Page, Query
    from tidewire.kernel.errors import ReplyError

    Done = Callable[[Page | ReplyError], None]

MAX_AT_ONCE: Final = 128
MAX_WAITING: Final = 10_000
CROWDED: Final = errors.TOO_MANY_REQUESTS.saying(
    "too many requests: too many reads of history wait on this edge"
)


class Reads:
    """The line of one edge."""

    __slots__ = ("_history", "_running", "_waiting")

    def __init__(self, history: History) -> None:
        self._history = history
        self._running = 0
        self._waiting: deque[tuple[Query, Done]] = deque()

    @property
    def running(self) -> int:
        """Reads that are under way."""
        return self._running

    @property
    def waiting(self) -> int:
        """Reads that wait for their turn."""
        return len(self._waiting)

    def ask(self, query: Query, done: Done, *, urgent: bool = False) -> ReplyError | None:
        """Read; `done` comes later. An error returned means: there is no room, and `done` is never called.

        An `urgent` one always has room, and goes before the others: publications wait for it.
        """
        if self._running < MAX_AT_ONCE:
            self._start(query, done)
        elif urgent:
            self._waiting.appendleft((query, done))
        elif len(self._waiting) >= MAX_WAITING:
            return CROWDED
        else:
            self._waiting.append((query, done))
        return None

    def _start(self, query: Query, done: Done) -> None:
        self._running += 1
        self._history.read(query, lambda result: self._ended(done, result))

    def _ended(self, done: Done, result: Page | ReplyError) -> None:
        self._running -= 1
        if self._waiting:
            self._start(*self._waiting.popleft())
        done(result)
