"""Answers what edges ask: from memory where it can prove the answer, else with what the stream adds to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tidewire.history.answers import (
    Answer,
    Need,
    Outcome,
    Query,
    Shown,
    Since,
    Window,
    answer,
    decide,
    visible,
)
from tidewire.history.ports import StoreAway
from tidewire.history.supply import Changed, Supply
from tidewire.history.turns import Asker, asker
from tidewire.kernel import errors
from tidewire.kernel.call_errors import BUSY, ELSEWHERE, UNAVAILABLE, CallError, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidewire.history.cache import Cache
    from tidewire.history.follower import Follower
    from tidewire.history.followers import Followers
    from tidewire.history.namespaces import Place
    from tidewire.history.ports import Metrics, Store
    from tidewire.history.timeline import Timeline
    from tidewire.kernel.clock import Clock

K = TypeVar("K")
T = TypeVar("T")
Stats = tuple[Answer, int, int]

MOST_UNDER_WAY: Final = 10_000
"""Reads that wait for a stream: they go on when their callers have given up."""
SHARE: Final = 4
"""Reads that a connection may have under way for each one that could come yet: one alone leaves a fifth to the others, two a
ninth. The same for a name on a connection, of what that could have yet."""
TRIES: Final = 5
"""Times that a read begins again, since the stream or the index changed under it."""


class Reader:
    """Reads of one process. Every method raises CallError: it never says that nothing is there for want of knowing."""

    def __init__(
        self,
        followers: Followers,
        cache: Cache,
        store: Store,
        supply: Supply,
        metrics: Metrics,
        clock: Clock,
        timeout: float,
    ) -> None:
        self._followers = followers
        self._cache = cache
        self._store = store
        self._supply = supply
        self._metrics = metrics
        self._clock = clock
        self.timeout = timeout
        """Seconds that a read may take; may change at any time, for reads to come."""
        self._under_way: dict[Query, asyncio.Task[Answer]] = {}
        self._of_asker = Counter[Asker]()
        self._of_connection = Counter[str]()

    @property
    def under_way(self) -> int:
        """Reads that wait for a stream."""
        return len(self._under_way)

    @property
    def requests_waiting(self) -> int:
        """Their requests, and those of other calls, that wait for their turn."""
        return self._store.waiting

    async def read(self, query: Query) -> Answer:
        """Answer a read."""
        place, follower = self.whereabouts(query.channel)
        found, source = await self._from_memory(place, follower, query), "memory"
        if found is None:
            found, source = await self._joined(query, lambda: self._read(place, follower, query)), "stream"
        self._metrics.read(source, found.outcome.name.lower())
        if not query.recover and found.outcome in {Outcome.OTHER_EPOCH, Outcome.TRIMMED}:
            raise refusal(errors.UNRECOVERABLE_POSITION)
        return found

    async def purge(self, channel: str) -> int:
        """Drop what a channel has kept, and return how much that was."""
        place, follower = self.whereabouts(channel)
        purged = await self.bounded(self._purge(place, follower))
        self._metrics.purged()
        return purged

    async def stats(self, channel: str) -> Stats:
        """Return the position, how many publications can be read, and the oldest of them (0: none)."""
        place, follower = self.whereabouts(channel)

        async def count(timeline: Timeline) -> Stats:
            first, certain = visible(timeline, self._window(place))
            while not certain:
                await self._supply.index(place, timeline, place.namespace.size)
                first, certain = visible(timeline, self._window(place))
            left = timeline.sequences[first:]
            top = Answer(*timeline.top, (), Outcome.COMPLETE)
            return top, len(left), left[0] if left else 0

        everything = Query(channel, None, 0, reverse=False, max_bytes=0, at_least=0, recover=False)
        return await self.bounded(self._with_timeline(place, follower, everything, count))

    # ------------------------------------------------------------------ where it is, and whether it can be served
    def whereabouts(self, channel: str) -> tuple[Place, Follower]:
        """Return where a channel is stored, and who follows that stream here."""
        place = self._followers.namespaces.place(channel)
        if place is None:
            raise refusal(errors.UNKNOWN_CHANNEL.saying("unknown channel: its namespace has no history"))
        follower = self._followers.by_stream.get(place.stream)
        if follower is None:
            raise CallError(ELSEWHERE, f"another replica serves {place.stream}")
        return place, follower

    def _is_ready(self, follower: Follower, query: Query) -> bool:
        """Whether memory knows all that there is, and all that the caller knows."""
        feed = follower.feed
        return feed.is_current(self._clock.monotonic()) and feed.heard >= _known(query, feed.epoch)

    async def _ready(self, follower: Follower, query: Query) -> None:
        """Wait until the stream was followed as far as it goes."""
        if self._is_ready(follower, query):
            return
        await self._followers.looked()
        feed = follower.feed
        if not feed.is_current(self._clock.monotonic()):
            raise CallError(UNAVAILABLE, f"{feed.stream} cannot be read now ({follower.problem})")
        if feed.heard < min(query.at_least, _known(query, feed.epoch)):
            if query.since is not None and query.since.epoch == feed.epoch:
                follower.claim(query.at_least)
            raise CallError(UNAVAILABLE, "the caller has seen more than the stream holds")

    # ------------------------------------------------------------------ reading
    async def _joined(self, query: Query, read: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """Do what identical reads that are under way do together."""
        task = self._under_way.get(query)
        if task is None:
            who = asker.get()
            self._admit(who)
            task = self._under_way[query] = asyncio.ensure_future(self.bounded(read()))
            task.add_done_callback(lambda done: self._over(query, who, done))
        else:
            self._metrics.joined()
        return await asyncio.shield(task)

    def _admit(self, who: Asker) -> None:
        """Raise CallError where there is no room, or none for who asks (a dynamic threshold, Choudhury and Hahne 1998)."""
        left = SHARE * (MOST_UNDER_WAY - len(self._under_way)) - self._of_connection[who.connection]
        if left <= 0 or self._of_asker[who] >= SHARE * left:
            self._metrics.refused()
            raise CallError(
                BUSY, f"{len(self._under_way)} reads wait for streams, too many of them for one asker"
            )
        self._of_asker[who] += 1
        self._of_connection[who.connection] += 1

    def _over(self, query: Query, who: Asker, task: asyncio.Task[Answer]) -> None:
        del self._under_way[query]
        _less(self._of_asker, who)
        _less(self._of_connection, who.connection)
        if not task.cancelled():
            task.exception()  # whoever asked may have gone: then it is nobody's

    async def bounded(self, work: Coroutine[Any, Any, T]) -> T:
        """Do what needs the stream, within the time that a read may take."""
        try:
            async with asyncio.timeout(self.timeout):
                return await work
        except StoreAway as error:
            raise CallError(UNAVAILABLE, str(error)) from error
        except TimeoutError:
            raise CallError(UNAVAILABLE, f"it took longer than {self.timeout:g} s") from None

    async def _from_memory(self, place: Place, follower: Follower, query: Query) -> Answer | None:
        """Return the answer if nothing of it needs the stream."""
        timeline = self._cache.get(place.key)
        if timeline is None or not self._is_ready(follower, query):
            return None
        shown = self._decide(place, timeline, query)
        if not isinstance(shown, Shown):
            return None
        top = timeline.top
        try:
            with self._pinned(place, timeline):
                publications, missing = await self._supply.held(place, timeline, shown)
        except Changed:
            return None
        return None if missing else answer(top, query, shown, publications)

    async def _read(self, place: Place, follower: Follower, query: Query) -> Answer:
        async def work(timeline: Timeline) -> Answer:
            for _ in range(TRIES):
                shown = self._decide(place, timeline, query)
                if isinstance(shown, Shown):
                    top = timeline.top
                    publications = await self._supply.bodies(place, timeline, shown)
                    return answer(top, query, shown, publications)
                await self._supply_need(place, timeline, query, shown)
            raise Changed

        return await self._with_timeline(place, follower, query, work)

    async def _with_timeline(
        self,
        place: Place,
        follower: Follower,
        query: Query,
        work: Callable[[Timeline], Coroutine[Any, Any, T]],
    ) -> T:
        for _ in range(TRIES):
            await self._ready(follower, query)
            if self._cache.get(place.key) is None:
                await self._supply.learn(follower, [place])
            timeline = self._cache.get(place.key)
            if timeline is None:
                await self._followers.looked()  # its newest publication is on its way to us
                continue
            try:
                with self._pinned(place, timeline):
                    return await work(timeline)
            except Changed:
                continue
        raise CallError(UNAVAILABLE, "the channel changes too fast to be read")

    @contextmanager
    def _pinned(self, place: Place, timeline: Timeline) -> Iterator[None]:
        timeline.pins += 1
        try:
            yield
        finally:
            timeline.pins -= 1
            if place.namespace.own_ttl:
                timeline.drop_bodies()
            if self._cache.get(place.key) is timeline:
                self._cache.used(place.key, timeline)

    def _decide(self, place: Place, timeline: Timeline, query: Query) -> Shown | Need:
        return decide(timeline, query, self._window(place), oldest_first=place.namespace.oldest_first)

    async def _supply_need(self, place: Place, timeline: Timeline, query: Query, need: Need) -> None:
        if need is Need.PROOF:
            since = query.since or Since(0, "")
            await self._supply.prove(place, timeline, since.offset)
            return
        size = place.namespace.size
        newest_only = query.reverse and query.since is None
        await self._supply.index(place, timeline, min(size, query.limit + 1) if newest_only else size)

    # ------------------------------------------------------------------ the rest
    async def _purge(self, place: Place, follower: Follower) -> int:
        """Drop all up to the stream's end. It is noted first: what is purged is never proven to be all there was."""
        feed = follower.feed
        facts = await self._store.facts(feed.stream)
        if facts is None or not feed.epoch:
            raise StoreAway(f"{feed.stream} cannot be purged now")
        await follower.notes.note_purge(place.key, facts.last, feed.epoch)
        purged = await self._store.purge(feed.stream, place.key, facts.last)
        follower.lose(place.key, facts.last)
        return purged

    def _window(self, place: Place) -> Window:
        now_ns = int(self._clock.wall() * 1e9)
        return Window(place.namespace.size, now_ns - place.namespace.ttl_ns)


def _known(query: Query, epoch: str) -> int:
    """Return the greatest sequence that the caller knows of; 0 where it speaks of another life."""
    if query.since is None or query.since.is_start:
        return query.at_least
    return max(query.at_least, query.since.offset) if query.since.epoch == epoch else 0


def _less(counts: Counter[K], key: K) -> None:
    """Count one off, and keep no count of 0."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
