"""Who may ask the streams next: askers take turns, so that one who asks much waits behind its own requests only."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar
from typing import NamedTuple


class Asker(NamedTuple):
    """For whom streams are asked. An edge's process has one connection, but a proxy may put the calls of many on its own.

    `name` is what the caller calls itself, which it may choose as it likes: names share what their connection has, so that who
    takes many, or those of others, takes nothing from other connections.
    """

    connection: str = ""
    name: str = ""


asker: ContextVar[Asker] = ContextVar("tidewire.history.asker", default=Asker())  # noqa: B039 - it cannot change
"""Of the call that is served; by itself, the service's own. Reads that are one are for the first who asked."""

_Line = deque[asyncio.Future[None]]


class Turns:
    """So many requests at once, as a semaphore; of those that wait the next one is another asker's, wherever there is one.

    Connections take turns, and so do the names on each.

    How many wait is bounded by the calls and reads that there may be.
    """

    def __init__(self, most: int) -> None:
        self.waiting = 0
        self._free = most
        self._lines: dict[str, dict[str, _Line]] = {}
        """Of each connection and name that waits, in the order in which they are served; those who have given up are passed over."""

    async def __aenter__(self) -> None:
        """Wait for a turn."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        who = asker.get()
        self._lines.setdefault(who.connection, {}).setdefault(who.name, deque()).append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self.waiting -= 1
            else:  # it came in the same moment
                self._pass_on()
            raise

    async def __aexit__(self, *_error: object) -> None:
        """End it."""
        self._pass_on()

    def _pass_on(self) -> None:
        while self._lines:
            connection = next(iter(self._lines))
            names = self._lines.pop(connection)
            turn = _next(names)
            if names:
                self._lines[connection] = names
            if turn is not None:
                self.waiting -= 1
                turn.set_result(None)
                return
        self._free += 1


def _next(names: dict[str, _Line]) -> asyncio.Future[None] | None:
    """Take what is next on a connection, whose name goes behind the others; None: all have given up."""
    while names:
        name = next(iter(names))
        line = names.pop(name)
        turn = line.popleft()
        while line and turn.cancelled():
            turn = line.popleft()
        if line:
            names[name] = line
        if not turn.cancelled():
            return turn
    return None
