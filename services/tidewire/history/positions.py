"""Where channels stand, many at once: what the sweep of an edge asks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from tidewire.history.answers import NOWHERE, Since, nothing_behind
from tidewire.history.turns import Turns
from tidewire.kernel import errors
from tidewire.kernel.call_errors import ELSEWHERE, UNAVAILABLE, CallError, refusal

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

T = TypeVar("T")
Position = tuple[int, str]
"""Offset and epoch."""


class Asked(NamedTuple):
    """A channel of a call: where it is stored, who follows that here (None where nobody does), and where the caller stands."""

    place: Place | None
    follower: Follower | None
    since: Since


Work = Callable[[], Coroutine[Any, Any, None]]
UNKNOWN: Final = refusal(errors.UNKNOWN_CHANNEL).reason.name
AT_A_TIME: Final = 250
"""Channels that are looked up in one go: a millisecond or two."""
LEARNING: Final = 4
"""Streams that are asked at the same time: each time it may be a thousand requests. The others wait for their turn, see `turns`."""
LOOKED_WITHIN: Final = 0.5
"""Seconds that a stream has to become current. One that cannot be read must not cost the others of a call the caller's patience."""

IN_VAIN: Final = 5.0
"""Seconds for which calls do not wait so, where that came to nothing: a sweep asks a hundred times."""


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
        self._waits_from = -math.inf

    async def of(self, channels: Sequence[str], since: Sequence[Since] = ()) -> list[Position | str]:
        """Return the position of each, in order, or the name of the reason why it has none.

        `since`, where the caller stands in each, is told as the position where nothing was stored behind it. A channel in
        which nothing is stored has no number of its own: one that this replica tells another has not, and each would be news.
        """
        asked = await _in_pieces(map(self._asked, channels, since or [NOWHERE] * len(channels)))
        await self._look_at({follower for _, follower, _ in asked if follower is not None})
        cold = _by_stream(asked, self._is_cold)
        await self._together(
            [partial(self._learn, follower, list(places)) for follower, places in cold.items()]
        )
        open_ = _by_stream(asked, self._is_open)
        await self._together(
            [partial(self._prove_empty, follower, places) for follower, places in open_.items()]
        )
        from_stream = {place for each in (cold, open_) for places in each.values() for place in places}
        self._metrics.positions("stream", len(from_stream))
        self._metrics.positions("memory", len(channels) - len(from_stream))
        return await _in_pieces(map(self._position, asked))

    def _asked(self, channel: str, since: Since) -> Asked:
        place = self._followers.namespaces.place(channel)
        return Asked(place, None if place is None else self._followers.by_stream.get(place.stream), since)

    async def _look_at(self, followers: Collection[Follower]) -> None:
        """Give streams that were out of sight a moment to be found current: after NATS was away edges ask at once."""
        now = self._clock.monotonic()
        if now < self._waits_from or all(follower.feed.is_current(now) for follower in followers):
            return
        try:
            async with asyncio.timeout(LOOKED_WITHIN):
                await self._followers.looked()
        except TimeoutError:
            self._waits_from = now + IN_VAIN

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
            raise CallError(UNAVAILABLE, f"{feed.stream} cannot be read now ({follower.problem})")
        async with self._learning:
            await self._supply.learn(follower, places)

    async def _prove_empty(self, follower: Follower, places: dict[Place, int]) -> None:
        async with self._learning:
            await self._supply.prove_empty(follower.feed, places)

    def _position(self, asked: Asked) -> Position | str:
        place, follower, since = asked
        if place is None:
            return UNKNOWN
        if follower is None:
            return ELSEWHERE.name
        timeline = self._cache.get(place.key)
        if timeline is None or not follower.feed.is_current(self._clock.monotonic()):
            return UNAVAILABLE.name
        self._cache.used(place.key, timeline)
        if nothing_behind(timeline, since):
            return since
        return timeline.top


def _by_stream(
    asked: Sequence[Asked], wanted: Callable[[Place, Feed, Since], bool]
) -> dict[Follower, dict[Place, int]]:
    """Return those that are wanted, each with the caller's offset."""
    found: dict[Follower, dict[Place, int]] = {}
    for place, follower, since in asked:
        if place is not None and follower is not None and wanted(place, follower.feed, since):
            found.setdefault(follower, {})[place] = since.offset
    return found


async def _in_pieces(work: Iterator[T]) -> list[T]:
    """Return all that an iterator makes; between pieces others get their turn."""
    made: list[T] = []
    while piece := [*islice(work, AT_A_TIME)]:
        made += piece
        if len(piece) == AT_A_TIME:
            await asyncio.sleep(0)
    return made
