"""What a stream adds to a timeline: its newest publication, older ones, the proof that none has gone, and their data."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from tidewire.history.answers import Publication, Shown, held
from tidewire.history.packed import packed
from tidewire.history.ports import StoreAway
from tidewire.history.records import purges_of
from tidewire.history.turns import Turns

if TYPE_CHECKING:
    from tidewire.history.cache import Cache
    from tidewire.history.feed import Facts, Feed
    from tidewire.history.follower import Follower
    from tidewire.history.messages import Message
    from tidewire.history.namespaces import Namespace, Place
    from tidewire.history.ports import Notebook, Store
    from tidewire.history.records import Purges
    from tidewire.history.timeline import Timeline

AT_ONCE: Final = 64
"""Publications that one read asks the stream for at a time."""
AT_A_TIME: Final = 250
"""Publications that are written for a reply in one go: some 1.5 ms where none of them was read before."""
FIRST_SPAN: Final = 4_096
SPAN_GROWTH: Final = 8
"""Sequences in which older publications are looked for first, and how much further each next time."""
MANY: Final = 16_384
"""Publications after which it goes no further at a time: what one read has found is there for the next, whole spans only."""
ANY_NUMBER: Final = 1 << 62


class Changed(Exception):
    """The life of the stream, or the index, changed during a read: it begins again."""


class Supply:
    """Asks the streams. Every method raises StoreAway, and those on a timeline `Changed`."""

    def __init__(self, cache: Cache, store: Store, notebook: Notebook) -> None:
        self._cache = cache
        self._store = store
        self._notebook = notebook
        self._writing = Turns(1)

    async def learn(self, follower: Follower, places: Sequence[Place]) -> None:
        """Begin the timelines of channels that have none: each with its newest publication, or that it has none.

        It may have to be repeated, where a timeline is still missing then.
        """
        feed = follower.feed
        epoch, heard = feed.epoch, feed.heard
        newest = await self._store.newest_of(feed.stream, [place.key for place in places], heard)
        if feed.epoch == epoch and feed.floor <= heard:
            for place in places:
                self._begin(follower, place, newest[place.key], heard)

    def _begin(self, follower: Follower, place: Place, newest: Message | None, heard: int) -> None:
        """`newest` is the newest up to `heard`, or of later."""
        timeline = self._cache.get(place.key)
        if timeline is None:
            timeline = follower.line()
            if newest is not None and newest.sequence > timeline.floor:
                return  # it is on its way to us, and begins the timeline itself
            self._cache.insert(place.key, timeline)
        if timeline.indexed <= heard:
            if newest is None:
                timeline.prepend(0, [])
            elif newest.sequence <= timeline.indexed:
                timeline.prepend(newest.sequence - 1, [newest])
                timeline.stood = 0
                if place.namespace.oldest_first:
                    timeline.prove(newest.sequence - 1)
        self._cache.used(place.key, timeline)

    async def index(self, place: Place, timeline: Timeline, wanted: int) -> None:
        """Put older publications into the index, until it has as many as wanted, or all that are stored."""
        span = FIRST_SPAN
        while timeline.indexed and timeline.count < wanted:
            found = await self._extend(place, timeline, max(0, timeline.indexed - span), ANY_NUMBER)
            if found < MANY:
                span *= SPAN_GROWTH

    async def prove(self, place: Place, timeline: Timeline, since: int) -> None:
        """Ask the stream whether anything behind `since` has ever gone; where it cannot say, note that.

        Publications go oldest first, so none has that is behind one which is still there. Where none is there up to `since`,
        none has gone while the stream's first publication is not behind since + 1, the subject has fewer than the limit, and
        it was not purged. All of it is asked of the leader, after the publications were read.
        """
        if since < timeline.indexed:
            room = max(0, place.namespace.size - timeline.count)
            if await self._extend(place, timeline, since, room) > room:
                timeline.hopeless = max(timeline.hopeless, since)
                return
        oldest = await self._store.oldest(timeline.feed.stream, place.key)
        self._check(place, timeline)
        if oldest is not None:
            timeline.prove(oldest.sequence - 1)
        if since < timeline.floor:
            if await self._has_all(place, timeline, since):
                timeline.prove(since)
            else:
                timeline.hopeless = max(timeline.hopeless, since)

    async def prove_empty(self, feed: Feed, places: Mapping[Place, int]) -> None:
        """Ask the stream once, of channels in which nothing is stored, whether anything behind these positions has ever gone.

        What the stream has and was not heard yet may be all of one channel, and have brought that to its limit.
        """
        timelines = {place: self._cache.get(place.key) for place in places}
        try:
            facts, purges = await self._evidence(feed)
        except Changed:
            return
        unheard = max(0, facts.last - feed.heard)
        for place, timeline in timelines.items():
            if timeline is None or self._cache.get(place.key) is not timeline or not timeline.is_empty:
                continue
            if _has_all(facts, purges, place.key, places[place], unheard):
                timeline.prove(places[place])

    async def _has_all(self, place: Place, timeline: Timeline, since: int) -> bool:
        facts, purges = await self._evidence(timeline.feed, place.key)
        self._check(place, timeline)
        return _has_all(facts, purges, place.key, since, facts.count)

    async def _evidence(self, feed: Feed, subject: bytes = b"") -> tuple[Facts, Purges]:
        """Return what the stream and the notes say now."""
        facts = await self._store.facts(feed.stream, subject)
        if facts is None:
            raise StoreAway(f"there is no stream {feed.stream}")
        record = await self._notebook.read(f"purges.{feed.stream}")
        life = feed.life
        if life is None or (facts.created, facts.generation) != (life.created, life.generation):
            raise Changed
        return facts, purges_of(record, feed.epoch, facts.last)

    async def bodies(self, place: Place, timeline: Timeline, shown: Shown) -> dict[int, Publication]:
        """Return the publications to show, those that memory lacks from the stream."""
        publications, missing = await self.held(place, timeline, shown)
        for start in range(0, len(missing), AT_ONCE):
            wanted = missing[start : start + AT_ONCE]
            found = await self._store.fetch(timeline.feed.stream, wanted)
            self._check(place, timeline)
            if gone := [sequence for sequence in wanted if sequence not in found]:
                _lose(timeline, gone, place.namespace)
                raise Changed
            for sequence, message in found.items():
                publications[sequence] = Publication(sequence, packed(message))
        if missing:
            _put_back(timeline, publications, sorted(missing))
        return publications

    async def held(
        self, place: Place, timeline: Timeline, shown: Shown
    ) -> tuple[dict[int, Publication], list[int]]:
        """As `answers.held`. Many are written in pieces, between which others get their turn, and for one read at a time."""
        sequences = shown.sequences
        if len(sequences) <= AT_A_TIME:
            return held(timeline, sequences)
        publications: dict[int, Publication] = {}
        missing: list[int] = []
        async with self._writing:
            for start in range(0, len(sequences), AT_A_TIME):
                found, lacking = held(timeline, sequences[start : start + AT_A_TIME])
                publications |= found
                missing += lacking
                await asyncio.sleep(0)
                self._check(place, timeline)
        return publications, missing

    async def _extend(self, place: Place, timeline: Timeline, since: int, most: int) -> int:
        """Put what is stored in (since, indexed] into the index, unless it is more than `most`; return how much it is."""
        until = timeline.indexed
        found = await self._store.scan(timeline.feed.stream, place.key, since, until, most)
        self._check(place, timeline)
        if timeline.indexed != until:
            raise Changed
        if len(found) <= most:
            timeline.prepend(since, found)
            self._cache.used(place.key, timeline)
        return len(found)

    def _check(self, place: Place, timeline: Timeline) -> None:
        """After a wait: raise unless the timeline is still the channel's."""
        if self._cache.get(place.key) is not timeline:
            raise Changed


def _has_all(facts: Facts, purges: Purges, key: bytes, since: int, count: int) -> bool:
    """Return whether nothing has gone behind `since`, of a subject without publications up to there, and `count` behind."""
    limits = [limit for limit in (purges.limit, facts.limit) if limit]
    full = bool(limits) and count >= min(limits)
    return facts.first <= since + 1 and not full and since >= purges.through(key.decode())


def _lose(timeline: Timeline, gone: Sequence[int], namespace: Namespace) -> None:
    """Publications of the index are not stored any more."""
    if namespace.oldest_first:
        timeline.lose_through(max(gone))
    else:
        timeline.reindex(timeline.feed.heard)


def _put_back(timeline: Timeline, publications: dict[int, Publication], missing: Sequence[int]) -> None:
    """Keep what was fetched, where it is the newest of what memory lacks."""
    first = timeline.place_of(missing[0])
    if timeline.sequences[first : first + len(missing)].tolist() == list(missing):
        timeline.restore(first, [publications[sequence].body for sequence in missing])
