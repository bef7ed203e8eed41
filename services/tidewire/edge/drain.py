"""Letting clients go in small steps, so that the other edges see a stream of reconnects and not a wave."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING

from tidewire.edge.timers import TICK
from tidewire.kernel import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidewire.edge.dispatcher import Dispatcher

RECONNECT_TIME = 1.0
"""Seconds that the SDKs may wait before they first connect again."""


async def retire_all(
    dispatcher: Dispatcher,
    window: float,
    emptied: Callable[[], bool],
    grace: float,
    send_waiting: Callable[[], None],
) -> None:
    """Close every connection with 3001, in random order, each once it is owed no reply, so that all are elsewhere in time.

    The last are told RECONNECT_TIME before `window` seconds are over (at half of a short window). Returns when `emptied`
    says that the last socket is gone, at the latest `grace` seconds after the window. `send_waiting` has them get first what
    is held back for a while.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    waiting = list(dispatcher.connections)
    random.shuffle(waiting)
    spread = max(window - RECONNECT_TIME, window / 2)
    step = math.ceil(len(waiting) * TICK / spread) if spread else len(waiting)
    while waiting:
        batch, waiting = waiting[:step], waiting[step:]
        send_waiting()
        for connection in batch:
            dispatcher.retire(connection, errors.SHUTDOWN)
        if waiting:
            await asyncio.sleep(TICK)
    while not emptied() and loop.time() < began + window + grace:
        for connection in list(
            dispatcher.connections
        ):  # their handshake was under way when the listener closed
            dispatcher.retire(connection, errors.SHUTDOWN)
        await asyncio.sleep(TICK)


async def wait_for(emptied: Callable[[], bool], seconds: float) -> None:
    """Return when `emptied` says so, at the latest after `seconds`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        if emptied():
            return
        await asyncio.sleep(TICK)
