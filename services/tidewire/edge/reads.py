"""Reads of history, as many at once as do some good; the others wait in line, up to a bound."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tidewire.kernel import errors

if TYPE_CHECKING:
    from tidewire.edge.ports import History, Page, Query
    from tidewire.kernel.errors import ReplyError

    Done = Callable[[Page | ReplyError], None]
    Asked = tuple[Query, Done]

MAX_AT_ONCE: Final = 128
MAX_WAITING: Final = 10_000
SHARE: Final = 4
"""Reads of a channel that may wait for each one that could come yet: one channel alone leaves a fifth to the others."""
CROWDED: Final = errors.TOO_MANY_REQUESTS.saying(
    "too many requests: too many reads of history wait on this edge"
)


class Reads:
    """The line of one edge. Channels take turns: who reads one again and again waits behind the reads of that one."""

    __slots__ = ("_history", "_lines", "_running", "_urgent", "_waiting")

    def __init__(self, history: History) -> None:
        self._history = history
        self._running = 0
        self._waiting = 0
        self._urgent: deque[Asked] = deque()
        self._lines: OrderedDict[str, deque[Asked]] = OrderedDict()
        """What waits of each channel, in the order in which they are served."""

    @property
    def running(self) -> int:
        """Reads that are under way."""
        return self._running

    @property
    def waiting(self) -> int:
        """Reads that wait for their turn."""
        return self._waiting

    def ask(self, query: Query, done: Done, *, urgent: bool = False) -> ReplyError | None:
        """Read; `done` comes later. An error returned means: there is no room, and `done` is never called.

        An `urgent` one always has room, and goes before the others: publications wait for it.
        """
        if self._running < MAX_AT_ONCE:
            self._start(query, done)
            return None
        line = self._urgent
        if not urgent:
            line = self._lines.get(query.channel) or deque()
            if len(line) >= SHARE * (MAX_WAITING - self._waiting):
                return CROWDED
            self._lines[query.channel] = line
        line.append((query, done))
        self._waiting += 1
        return None

    def _next(self) -> Asked:
        self._waiting -= 1
        if self._urgent:
            return self._urgent.popleft()
        channel, line = next(iter(self._lines.items()))
        found = line.popleft()
        if line:
            self._lines.move_to_end(channel)
        else:
            del self._lines[channel]
        return found

    def _start(self, query: Query, done: Done) -> None:
        self._running += 1
        self._history.read(query, lambda result: self._ended(done, result))

    def _ended(self, done: Done, result: Page | ReplyError) -> None:
        self._running -= 1
        if self._waiting:
            self._start(*self._next())
        done(result)
