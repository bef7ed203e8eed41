"""Where channels stand, many at once: what the sweep of an edge asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tidewire.history.answers import NOWHERE, Since, nothing_behind
from tidewire.history.turns import Turns
from tidewire.kernel.call_errors import UNAVAILABLE, CallError

if TYPE_CHECKING:
    from tidewire.history.cache import Cache
    from tidewire.history.feed import Feed
    from tidewire.history.follower import Follower
    from tidewire.history.followers import Followers
    from tidewire.history.namespaces import Place
    from tidewire.history.ports import Metrics
    from tidewire.history.reader import Reader
    from tidewire.history.supply import Supply
    from tidewire.kernel.clock import Clock

Position = tuple[int, str]
"""Offset and epoch."""
Work = Callable[[], Coroutine[Any, Any, None]]
LEARNING: Final = 4
"""Streams that are asked at the same time: each time it may be a thousand requests. The others wait for their turn, see `turns`."""
LOOKED_WITHIN: Final = 0.5
"""Seconds that a stream has to become current. One that cannot be read must not cost the others of a call the caller's patience."""


class Positions:
    """Positions of one process."""

    def __init__(
        self,
        reader: Reader,
        followers: Followers,
        cache: Cache,
        supply: Supply,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._reader = reader
        self._followers = followers
        self._cache = cache
        self._supply = supply
        self._metrics = metrics
        self._clock = clock
        self._learning = Turns(LEARNING)

    async def of(self, channels: Sequence[str], since: Sequence[Since] = ()) -> list[Position | str]:
        """Return the position of each, in order, or the name of the reason why it has none.

        `since`, where the caller stands in each, is told as the position where nothing was stored behind it. A channel in
        which nothing is stored has no number of its own: one that this replica tells another has not, and each would be news.
        """
        asked = list(zip(channels, since or [NOWHERE] * len(channels), strict=True))
        cold = self._by_stream(asked, self._is_cold)
        await self._together(
            [partial(self._learn, follower, list(places)) for follower, places in cold.items()]
        )
        open_ = self._by_stream(asked, self._is_open)
        await self._together(
            [partial(self._prove_empty, follower, places) for follower, places in open_.items()]
        )
        from_stream = {place for each in (cold, open_) for places in each.values() for place in places}
        self._metrics.positions("stream", len(from_stream))
        self._metrics.positions("memory", len(channels) - len(from_stream))
        return [self._position(*each) for each in asked]

    def _by_stream(
        self, asked: Sequence[tuple[str, Since]], wanted: Callable[[Place, Feed, Since], bool]
    ) -> dict[Follower, dict[Place, int]]:
        """Return those that are wanted, each with the caller's offset."""
        found: dict[Follower, dict[Place, int]] = {}
        for channel, since in asked:
            place = self._followers.namespaces.place(channel)
            follower = None if place is None else self._followers.by_stream.get(place.stream)
            if place is not None and follower is not None and wanted(place, follower.feed, since):
                found.setdefault(follower, {})[place] = since.offset
        return found

    def _is_cold(self, place: Place, _feed: Feed, _since: Since) -> bool:
        return self._cache.get(place.key) is None

    def _is_open(self, place: Place, feed: Feed, since: Since) -> bool:
        """Whether only the stream can say that nothing was ever stored behind a position, in a channel with nothing in it."""
        timeline = self._cache.get(place.key)
        if timeline is None or not place.namespace.oldest_first or since.epoch != feed.epoch:
            return False
        return timeline.is_empty and timeline.hopeless < since.offset < timeline.floor

    async def _together(self, works: Sequence[Work]) -> None:
        """Do all at once; a stream that is away leaves its channels without a position, and the others as they are."""
        ended = await asyncio.gather(*map(self._tried, works), return_exceptions=True)
        for problem in ended:
            if problem is not None and not isinstance(problem, CallError):
                raise problem

    async def _tried(self, work: Work) -> None:
        await self._reader.bounded(work())

    async def _learn(self, follower: Follower, places: Sequence[Place]) -> None:
        feed = follower.feed
        if not feed.is_current(self._clock.monotonic()):
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOKED_WITHIN):
                    await self._followers.looked()
            if not feed.is_current(self._clock.monotonic()):
                raise CallError(UNAVAILABLE, f"{feed.stream} cannot be read now ({follower.problem})")
        async with self._learning:
            await self._supply.learn(follower, places)

    async def _prove_empty(self, follower: Follower, places: dict[Place, int]) -> None:
        async with self._learning:
            await self._supply.prove_empty(follower.feed, places)

    def _position(self, channel: str, since: Since) -> Position | str:
        try:
            place, follower = self._reader.whereabouts(channel)
        except CallError as error:
            return error.reason.name
        timeline = self._cache.get(place.key)
        if timeline is None or not follower.feed.is_current(self._clock.monotonic()):
            return UNAVAILABLE.name
        self._cache.used(place.key, timeline)
        if nothing_behind(timeline, since):
            return since
        return timeline.top
