from __future__ import annotations

import asyncio
import os
import time

import pytest

from tests.support.machine import NONE, Turns, Watch
from tests.support.wait import eventually


def test_waiting_for_a_processor_is_slowness() -> None:
    """What a process has not wished to run is none."""
    assert Turns(3.0, 2.0).slowdown(Turns(1.0, 1.0)) == pytest.approx(1.5)
    assert Turns(1.0, 1.0).slowdown(Turns(1.0, 0.5)) == 1.0, "it has not run at all"
    assert Turns.of(os.getpid()).slowdown(NONE) >= 1.0


async def test_watch_sees_a_stall() -> None:
    """Of the loop, which is what a machine that stands still looks like."""
    watch = Watch()
    with watch.watching():
        await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - it is the loop that has to stand still
        await eventually(lambda: watch.longest >= 0.4)
