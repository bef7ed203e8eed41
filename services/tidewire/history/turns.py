"""Who may ask the streams next: askers take turns, so that one who asks much waits behind its own requests only."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar

asker: ContextVar[str] = ContextVar("tidewire.history.asker", default="")
"""For whom streams are asked: the connection by which a call came, of which an edge's process has one; "": the service itself.

Reads that are one are for the first who asked.
"""


class Turns:
    """So many requests at once, as a semaphore; of those that wait the next one is another asker's, wherever there is one.

    How many wait is bounded by the calls and reads that there may be.
    """

    def __init__(self, most: int) -> None:
        self.waiting = 0
        self._free = most
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        """Of each asker who waits, in the order in which they are served; those who have given up are passed over."""

    async def __aenter__(self) -> None:
        """Wait for a turn."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault(asker.get(), deque()).append(turn)
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
            who = next(iter(self._lines))
            line = self._lines.pop(who)
            turn = line.popleft()
            while line and turn.cancelled():
                turn = line.popleft()
            if line:
                self._lines[who] = line
            if not turn.cancelled():
                self.waiting -= 1
                turn.set_result(None)
                return
        self._free += 1
