from __future__ import annotations

import asyncio
import time

from tidewire.platform.tasks import AGAIN, ended


async def test_a_task_that_misses_its_cancellation_is_cancelled_again() -> None:
    """As often as it takes; what it raises in the end is nobody's business."""
    missed = 0

    async def go_on() -> None:
        nonlocal missed
        while missed < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                missed += 1
        raise ValueError

    task = asyncio.create_task(go_on())
    await asyncio.sleep(0)
    began = time.monotonic()
    await ended([task])
    assert task.done()
    assert (missed, time.monotonic() - began >= AGAIN) == (2, True)


async def test_tasks_may_have_ended_and_there_may_be_none() -> None:
    """A collection that loses its tasks as they end is no trouble."""
    going = {asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(asyncio.sleep(0))}
    for task in going.copy():
        task.add_done_callback(going.discard)
    await asyncio.sleep(0)
    await ended(going)
    assert not going
    await ended([])
