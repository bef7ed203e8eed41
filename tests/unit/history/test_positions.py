from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

from tidewire.history.cache import Cache
from tidewire.history.positions import LEARNING, Positions
from tidewire.history.reader import Reader
from tidewire.history.timeline import Timeline

PATIENCE = 2.0
"""What an edge has (`history.timeout`)."""


class Stage:
    """Two streams: `live` is followed, of `dead` nobody answers what it holds. A channel's name begins with its stream's."""

    def __init__(self) -> None:
        self.cache = Cache(10**7)
        self.learned: list[str] = []
        self.by_stream = {name: self._follower(name) for name in ("dead", "live")}
        self.namespaces = SimpleNamespace(place=self._place)
        reader: Any = object.__new__(Reader)
        reader.timeout, reader._followers, reader._cache = 3.0, self, self.cache
        metrics: Any = SimpleNamespace(positions=lambda *_: None)
        clock: Any = time
        stage: Any = self
        self.positions = Positions(reader, stage, self.cache, stage, metrics, clock)

    def _follower(self, stream: str) -> Any:
        feed = SimpleNamespace(
            stream=stream, is_current=lambda _now: stream == "live", epoch="e", heard=9, floor=0, forgotten=0
        )
        return Known(feed=feed, problem="no leader", key=stream)

    @staticmethod
    def _place(channel: str) -> Any:
        stream, _, _ = channel.partition(":")
        return Known(key=channel.encode(), stream=stream, namespace=SimpleNamespace(oldest_first=True))

    async def looked(self) -> None:
        """No look ends while a stream does not answer."""
        await asyncio.Event().wait()

    async def learn(self, follower: Any, places: list[Any]) -> None:
        """What is asked of a stream: that nothing is stored there."""
        for place in places:
            self.learned.append(place.stream)
            self.cache.insert(place.key, Timeline(follower.feed, 0, 9))


class Known(SimpleNamespace):
    """A stream's follower, or a channel's place, known by its key."""

    def __hash__(self) -> int:
        return hash(self.key)


async def test_a_stream_that_cannot_be_read_costs_the_others_nothing() -> None:
    """Their positions come within the caller's patience, however many ask for those that cannot be had; it is asked for nothing."""
    stage = Stage()
    calls = [stage.positions.of([f"dead:{number}", f"live:{number}"]) for number in range(5 * LEARNING)]
    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(*calls)
    assert {dead for dead, _ in found} == {"unavailable"}
    assert {live for _, live in found} == {(9, "e")}
    assert set(stage.learned) == {"live"}


async def test_a_caller_that_gives_up_leaves_nothing_behind() -> None:
    """No turn is held, and no work was begun that nobody ends."""
    stage = Stage()
    calls = [asyncio.ensure_future(stage.positions.of(["dead:1"])) for _ in range(3 * LEARNING)]
    await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError)
        for each in await asyncio.gather(*calls, return_exceptions=True)
    )
    assert await stage.positions.of(["live:1"]) == [(9, "e")]
    assert stage.positions._learning.waiting == 0


async def test_a_stream_that_does_not_come_is_not_waited_for_by_every_call() -> None:
    """A sweep asks a hundred times, one after the other."""
    stage = Stage()
    looks = 0
    looked = stage.looked

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await looked()

    stage.looked = counted  # type: ignore[method-assign] # waits as that does
    for number in range(5):
        assert await stage.positions.of([f"dead:{number}", f"live:{number}"]) == ["unavailable", (9, "e")]
    assert looks == 1
