"""The end of tasks that go on for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final

AGAIN: Final = 0.1
"""Seconds before a task that goes on is cancelled once more."""


async def ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended, whatever they raise.

    One cancellation may get lost: `asyncio.wait_for` of Python 3.11 returns its result instead where that is there
    already, and nats-py catches it in `_flush_pending`. Both happen while a connection to NATS is made.
    """
    every = tuple(tasks)
    going = set(every)
    while going:
        for task in going:
            task.cancel()
        _, going = await asyncio.wait(going, timeout=AGAIN)
    await asyncio.gather(*every, return_exceptions=True)
