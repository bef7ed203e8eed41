from __future__ import annotations

import asyncio
import itertools
from typing import cast

import pytest

from tests.fakes.loop import in_own_time
from tests.support.protocol import protocol
from tidewire.edge.dispatcher import Dispatcher
from tidewire.edge.drain import retire_all, wait_for
from tidewire.edge.timers import TICK
from tidewire.kernel import errors
from tidewire.kernel.errors import Disconnect

ROUNDING = 1e-9
"""Seconds that sums of ticks may be wrong by."""


class FakeDispatcher:
    """Connections by number; those in `owing` stay until they are paid."""

    def __init__(self, count: int) -> None:
        self.connections: dict[int, None] = dict.fromkeys(range(count))
        self.owing: set[int] = set()
        self.retired: list[tuple[float, int]] = []
        self.sent = 0

    def retire(self, connection: int, disconnect: Disconnect) -> None:
        assert disconnect is errors.SHUTDOWN
        self.retired.append((asyncio.get_running_loop().time(), connection))
        if connection not in self.owing:
            self.connections.pop(connection, None)

    def send_waiting(self) -> None:
        self.sent += 1

    @property
    def empty(self) -> bool:
        """Whether everybody has gone."""
        return not self.connections


async def drained(fake: FakeDispatcher, window: float, grace: float = 1.0) -> float:
    """Retire all and return how long it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await retire_all(cast("Dispatcher", fake), window, lambda: fake.empty, grace, fake.send_waiting)
    return loop.time() - began


@protocol("close.owed", "disconnect.3001")
def test_clients_go_in_small_steps_over_the_window_in_random_order() -> None:
    """So that other edges see a stream of reconnects."""
    fake = FakeDispatcher(200)
    took = in_own_time(drained(fake, window=1.0))  # told within its first half, the rest is for reconnecting
    assert 0.5 - TICK <= took + ROUNDING <= 0.5 + 2 * ROUNDING
    steps = [
        [number for _, number in group]
        for _, group in itertools.groupby(fake.retired, key=lambda each: each[0])
    ]
    assert max(len(step) for step in steps) <= 200 * TICK / 0.5
    assert fake.sent == len(steps)
    order = [number for _, number in fake.retired]
    assert sorted(order) == list(range(200))
    assert order != sorted(order)


@pytest.mark.parametrize(("count", "window"), [(0, 20.0), (0, 0.0), (50, 0.0), (1, 20.0)])
def test_few_clients_or_no_window_take_no_time(count: int, window: float) -> None:
    """An idle edge ends at once."""
    fake = FakeDispatcher(count)
    assert in_own_time(drained(fake, window)) == 0
    assert len(fake.retired) == count


@protocol("close.owed")
def test_owed_connections_have_the_grace_time() -> None:
    """And not longer, whoever is left then."""
    fake = FakeDispatcher(3)
    fake.owing = {1}
    assert 0.3 <= in_own_time(drained(fake, window=0.0, grace=0.3)) + ROUNDING < 0.3 + 2 * TICK
    assert list(fake.connections) == [1]
    assert in_own_time(_paid_after(0.05)) <= 2 * TICK


async def _paid_after(seconds: float) -> float:
    paid = FakeDispatcher(3)
    paid.owing = {1}
    asyncio.get_running_loop().call_later(seconds, paid.owing.clear)
    return await drained(paid, window=0.0, grace=30.0)


async def test_connection_whose_handshake_was_under_way_is_retired_too() -> None:
    """It appears when the round is over already, as long as its socket is there."""
    fake = FakeDispatcher(1)
    late = dict.fromkeys([7])
    asyncio.get_running_loop().call_later(0.05, fake.connections.update, late)
    arrived = [False]
    asyncio.get_running_loop().call_later(0.05, arrived.__setitem__, 0, True)
    await retire_all(cast("Dispatcher", fake), 0.0, lambda: arrived[0] and fake.empty, 5.0, fake.send_waiting)
    assert [number for _, number in fake.retired] == [0, 7]


async def test_waiting_ends_when_there_is_nothing_to_wait_for_or_with_the_time() -> None:
    """Asked every tick."""
    answers = iter([False, True])
    await wait_for(lambda: next(answers), 60)
    assert next(answers, None) is None
    await wait_for(lambda: False, 0.15)
