"""Connections that sent more than is worked off at once take turns, so that many who flood are no worse than one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

TURN = 0.002
"""Seconds of work that all of them get together in one turn of the loop; then everyone else is served."""


class Worker(Protocol):
    """A connection that has something to work off."""

    def work_off(self) -> bool:
        """Do one piece of it; return whether there is more."""


class Rotation:
    """Who waits: each does one piece, then the next. `over` hears of each turn of the loop that was too short for all."""

    __slots__ = ("_over", "_turning", "_waiting")

    def __init__(self, over: Callable[[], None]) -> None:
        self._over = over
        self._waiting: deque[Worker] = deque()
        self._turning = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, worker: Worker) -> None:
        """Let a connection that is not waiting yet take its turns, from the end of the line."""
        self._waiting.append(worker)
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        until = time.monotonic() + TURN
        try:
            self._rotate()
            while self._waiting and time.monotonic() < until:
                self._rotate()
        finally:  # a piece that raises is the loop's to report, and costs no other connection anything
            self._turning = bool(self._waiting)
            if self._turning:
                self._over()
                asyncio.get_running_loop().call_soon(self._turn)

    def _rotate(self) -> None:
        worker = self._waiting.popleft()
        if worker.work_off():
            self._waiting.append(worker)
