"""What the machine takes from a process: a bound on time is a bound on what it does itself, and not on its neighbours."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TICK = 0.05


class Turns(NamedTuple):
    """What the first thread of a process has had of the processors so far (Linux: Documentation/scheduler/sched-stats)."""

    ran: float
    """Seconds."""
    waited: float
    """Seconds in which it would have run, and did not."""

    @classmethod
    def of(cls, pid: int) -> Turns:
        """Read them."""
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        return cls(int(ran) / 1e9, int(waited) / 1e9)

    def slowdown(self, since: Turns) -> float:
        """Return how many times longer all took since then than on a machine of its own."""
        ran, waited = self.ran - since.ran, self.waited - since.waited
        return (ran + waited) / ran if ran > 0 else 1.0


NONE = Turns(0.0, 0.0)
"""Of a process that has not begun."""


class Watch:
    """How late this process was, which has little to do itself: as late as a machine that stood still."""

    def __init__(self) -> None:
        self.longest = 0.0
        """Seconds."""

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the clock again and again inside the block."""
        task = asyncio.get_running_loop().create_task(self._look())
        try:
            yield
        finally:
            task.cancel()

    async def _look(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(TICK)
            self.longest = max(self.longest, time.monotonic() - began - TICK)
