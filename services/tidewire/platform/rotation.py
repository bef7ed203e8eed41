"""Those who ask for more than the loop can do at once take turns, so that a crowd is no worse for all others than one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

TURN = 0.002
"""Seconds of work that all of them get together in one turn of the loop; then everyone else is served."""
MAX_WAIT = 1.0
"""Seconds that a handshake may wait for its turn. The SDKs give up 5 s after TCP has connected them, and the kernel made it
wait, too: what comes too late for them was for nothing, and keeps the next one waiting."""


Work = Callable[[], bool]
"""Does one piece of what somebody has to do; returns whether there is more."""


def next_turn(action: Callable[[], None]) -> None:
    """Do something in the loop's next turn."""
    asyncio.get_running_loop().call_soon(action)


class Rotation:
    """Who waits: each does one piece, then the next. `over` hears of each turn of the loop that was too short for all.

    `soon` calls back from the loop's next turn.
    """

    __slots__ = ("_over", "_soon", "_turning", "_waiting")

    def __init__(
        self, over: Callable[[], None], soon: Callable[[Callable[[], None]], object] = next_turn
    ) -> None:
        self._over = over
        self._soon = soon
        self._waiting: deque[Work] = deque()
        self._turning = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, work: Work) -> None:
        """Let somebody who is not waiting yet take turns, from the end of the line."""
        self._waiting.append(work)
        if not self._turning:
            self._turning = True
            self._soon(self._turn)

    def _turn(self) -> None:
        until = time.monotonic() + TURN
        try:
            self._rotate()
            while self._waiting and time.monotonic() < until:
                self._rotate()
        finally:  # a piece that raises is the loop's to report, and costs nobody else anything
            self._turning = bool(self._waiting)
            if self._turning:
                self._over()
                self._soon(self._turn)

    def _rotate(self) -> None:
        work = self._waiting.popleft()
        if work():
            self._waiting.append(work)
