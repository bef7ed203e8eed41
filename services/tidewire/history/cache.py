"""The timelines of all channels within a budget of memory. Pure.

Over the budget, the least recently used channels lose their publications first, the older half at a time; what was there
stays in the index. When indexes alone take half of the budget, the least recently used channels are forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from tidewire.history.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tidewire.history.feed import Feed


class Cache:
    """Timelines by subject. Who changes one says so by `used`; `used` and `insert` evict others."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        """Bytes."""
        self.bytes = 0
        self.bodies_evicted = self.channels_evicted = 0
        self._full: OrderedDict[bytes, Timeline] = OrderedDict()
        self._bare: OrderedDict[bytes, Timeline] = OrderedDict()
        self._bare_bytes = 0

    def __len__(self) -> int:
        return len(self._full) + len(self._bare)

    def get(self, key: bytes) -> Timeline | None:
        """Return a channel's timeline, if there is one; this is no use of it."""
        found = self._full.get(key)
        return self._bare.get(key) if found is None else found

    def insert(self, key: bytes, timeline: Timeline) -> None:
        """Take a new timeline, or what one that is held takes by now."""
        if timeline.bodies and key in self._full:
            self._full.move_to_end(key)
            cost = timeline.cost + len(key)
            self.bytes += cost - timeline.charged
            timeline.charged = cost
        else:
            self._account(key, timeline)
        if self.bytes > self.budget:
            self._make_room(timeline)

    def used(self, key: bytes, timeline: Timeline) -> None:
        """Note that a timeline was used, and what it takes by now; for one that was forgotten, nothing."""
        if self.get(key) is not timeline:
            return
        self.insert(key, timeline)

    def of(self, feed: Feed) -> Iterator[Timeline]:
        """Yield the timelines of a stream."""
        for timelines in (self._full, self._bare):
            yield from (timeline for timeline in timelines.values() if timeline.feed is feed)

    def drop(self, feed: Feed, chosen: Callable[[bytes], bool] | None = None) -> None:
        """Forget all timelines of a stream, or those of the subjects that are chosen."""
        for timelines in (self._full, self._bare):
            for key, timeline in [*timelines.items()]:
                if timeline.feed is feed and (chosen is None or chosen(key)):
                    self._remove(key, timeline)

    # ------------------------------------------------------------------ eviction
    def _make_room(self, used: Timeline) -> None:
        """Come down to the budget, if that can be at the expense of others: what is used now is about to be read."""
        used.pins += 1
        self._evict()
        used.pins -= 1
        self._evict()

    def _evict(self) -> None:
        """Come down to the budget; timelines that are being read are passed over."""
        passed = 0
        while self.bytes > self.budget and passed <= len(self):
            bare_first = bool(self._bare) and (
                passed >= len(self._full) or self._bare_bytes > self.budget // 2
            )
            key, timeline = next(iter((self._bare if bare_first else self._full).items()))
            if timeline.pins:
                self._account(key, timeline)
                passed += 1
            elif bare_first:
                self._forget(key, timeline)
            else:
                before = len(timeline.bodies)
                timeline.forget_bodies()
                self.bodies_evicted += before - len(timeline.bodies)
                self._account(key, timeline, keep_place=True)

    def _forget(self, key: bytes, timeline: Timeline) -> None:
        newest = timeline.entries[-2] if timeline.entries else timeline.floor
        timeline.feed.forgotten = max(timeline.feed.forgotten, newest)
        self.channels_evicted += 1
        self._remove(key, timeline)

    def _remove(self, key: bytes, timeline: Timeline) -> None:
        self.bytes -= timeline.charged
        if self._bare.pop(key, None) is not None:
            self._bare_bytes -= timeline.charged
        else:
            del self._full[key]

    def _account(self, key: bytes, timeline: Timeline, *, keep_place: bool = False) -> None:
        """Bring the sums up to date; the timeline becomes the most recently used unless it keeps its place."""
        cost, before = timeline.cost + len(key), timeline.charged
        self.bytes += cost - before
        timeline.charged = cost
        if self._bare and self._bare.pop(key, None) is not None:
            self._bare_bytes -= before
        if not timeline.bodies:
            self._full.pop(key, None)
            self._bare[key] = timeline
            self._bare_bytes += cost
        elif key not in self._full:
            self._full[key] = timeline
        elif not keep_place:
            self._full.move_to_end(key)
