"""What is known of one channel's publications, and how far back it is proven. Pure.

Sequences are those of the channel's stream. What is held is a suffix of the channel: an index (sequences and times), and of
its newest part the publications themselves, see `packed`. Four numbers say what the index is worth; `heard` is how far the stream was
followed, the same for all its channels:

- `floor`: whatever was *ever* stored in (floor, heard] is in the index. Only that proves a recovery.
- `indexed`: whatever is *still* stored in (indexed, heard] is in the index.
- `cut`: the newest publication that is known to have gone for good: who is below it has missed something.
- `hopeless`: from there and from below nothing can be proven by the stream either: it could not, or was purged.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidewire.history.messages import Message
from tidewire.history.packed import heard, is_packed, packed_of

if TYPE_CHECKING:
    from tidewire.history.feed import Feed

FIXED_COST = 600
"""Bytes of a channel without publications: the object, its arrays and its place in the cache, measured."""
NUMBER_COST = 8
"""Of one in the index, which has two for each publication."""
BODY_COST = 48
"""Bytes of a publication in memory beside those of its body."""
SLACK, LEAST_SLACK = 8, 16
"""The index may exceed the namespace's size by one part in so many, and by so many, so that it is not cut at every publication."""


class Timeline:
    """One channel. `stood`: the least that its position can be, whatever is in the index."""

    __slots__ = (
        "bodies",
        "body_bytes",
        "charged",
        "cut",
        "entries",
        "feed",
        "floor",
        "gone",
        "gone_time",
        "hopeless",
        "indexed",
        "pins",
        "stood",
    )

    def __init__(self, feed: Feed, floor: int, newest: int) -> None:
        self.feed = feed
        self.floor = self.indexed = floor
        self.stood = newest
        self.cut = 0
        self.hopeless = -1
        self.gone = 0
        """The newest publication that was in the index once, and the time of it."""
        self.gone_time = 0
        self.pins = 0
        """How many read it just now: it stays."""
        self.entries = array("Q")
        """The index: sequence and time of each publication in turn, oldest first. One array takes half the memory of two."""
        self.bodies: list[bytes] = []
        self.body_bytes = 0
        self.charged = 0
        """The cache's: what it has last counted for it."""

    @property
    def cost(self) -> int:
        """Bytes that it takes, about."""
        return FIXED_COST + NUMBER_COST * len(self.entries) + BODY_COST * len(self.bodies) + self.body_bytes

    @property
    def newest(self) -> int:
        """Its position: its newest publication, or where the stream stood when it had none."""
        return max(self.stood, self.entries[-2]) if self.entries else self.stood

    @property
    def top(self) -> tuple[int, str]:
        """The same with the epoch."""
        return self.newest, self.feed.epoch

    @property
    def count(self) -> int:
        """How many publications are in the index."""
        return len(self.entries) >> 1

    @property
    def sequences(self) -> memoryview[int]:
        """Those of the index, ascending. A view, during whose life the index cannot change."""
        return memoryview(self.entries)[::2]

    @property
    def times(self) -> memoryview[int]:
        """The same of when they were stored, nanoseconds since 1970."""
        return memoryview(self.entries)[1::2]

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the channel is stored, as far as the stream was followed."""
        return not self.sequences and not self.indexed

    # ------------------------------------------------------------------ what becomes known
    def append(
        self, sequence: int, last: int | None, time_ns: int, body: bytes, *, oldest_first: bool
    ) -> None:
        """Take the next publication, as it was heard. `last` is the one before it that was still stored (0: none; None: not told).

        `oldest_first`: the stream loses publications of a channel in no other order.
        """
        known = self.entries[-2] if self.entries else 0
        if last is not None and (last != known or not known):
            self._compare(last, known, oldest_first=oldest_first)
        # What begins with one thing and not empty has no room to grow in, which most channels do not need.
        if self.entries:
            self.entries.append(sequence)
            self.entries.append(time_ns)
        else:
            self.entries = array("Q", (sequence, time_ns))
        if self.bodies:
            self.bodies.append(body)
        else:
            self.bodies = [body]
        self.stood = 0
        self.body_bytes += len(body)

    def _compare(self, last: int, known: int, *, oldest_first: bool) -> None:
        """Hold what the stream says of the publication before the next one against the index, which ends otherwise."""
        if last < known:
            self._lose_newest(last, oldest_first=oldest_first)
        elif last > self.indexed:
            # There was one that was never heard: whatever is held ends before it.
            self._drop_index(self.count)
            self.indexed = last
            self.floor = last if oldest_first else max(self.floor, self.newest, last)
            return
        if self.entries:
            return
        # The one before is stored and not in the index. Where it is, nothing behind it has gone: the rest is known.
        self.indexed = last
        if last and oldest_first:
            self.floor = last

    def _lose_newest(self, last: int, *, oldest_first: bool) -> None:
        """Publications of the index are gone: all of it, or where they end in any order those behind `last`."""
        if oldest_first:
            self.lose_through(self.sequences[-1])
            return
        self.stood = self.newest
        left = bisect_right(self.sequences, last)
        lost = self.count - left
        self.floor = max(self.floor, self.sequences[-1])
        self.body_bytes -= sum(map(len, self.bodies[-lost:]))
        del self.bodies[-lost:], self.entries[2 * left :]

    def lose_through(self, sequence: int) -> None:
        """Whatever is at or below `sequence` is not to be had any more."""
        self.hopeless = max(self.hopeless, min(self.floor, sequence) - 1)
        lost = bisect_right(self.sequences, sequence)
        if lost:
            self.cut = self.sequences[lost - 1]
            self._drop_index(lost, stored=False)
        if self.indexed <= sequence:
            self.indexed = 0

    def uncertain_through(self, sequence: int) -> None:
        """Something at or below `sequence` was never heard and is gone: of which channel, nobody knows."""
        self.floor = max(self.floor, sequence)
        if self.is_empty:  # who stands below is to ask
            self.stood = max(self.stood, sequence)

    def prepend(self, since: int, found: Sequence[Message]) -> None:
        """Take all that the stream has in (since, indexed], oldest first."""
        if found:
            if len(self.bodies) == self.count:
                bodies = [*map(heard, found)]
                self.bodies[:0] = bodies
                self.body_bytes += sum(map(len, bodies))
            older = [number for message in found for number in (message.sequence, message.time_ns)]
            self.entries = array("Q", older) + self.entries
        self.indexed = min(self.indexed, since)

    def prove(self, since: int) -> None:
        """Nothing behind `since` has ever gone, says the stream; what is in the index is thereby all there was."""
        self.floor = min(self.floor, max(since, self.indexed))

    # ------------------------------------------------------------------ what is forgotten
    def keep(self, size: int) -> None:
        """Forget what is older than the newest `size`, now and then."""
        excess = (len(self.entries) >> 1) - size
        if excess > LEAST_SLACK and excess > size // SLACK:
            self._drop_index(excess)

    def forget_bodies(self) -> None:
        """Forget the older half of the publications, but not that they were there."""
        self._drop_bodies((len(self.bodies) + 1) // 2)

    def drop_bodies(self) -> None:
        """Forget all publications: the stream must be asked which of them are left."""
        self._drop_bodies(len(self.bodies))

    def reindex(self, heard: int) -> None:
        """Forget the index: what is left of it, only the stream knows."""
        self._drop_index(self.count)
        self.indexed = heard

    def restore(self, first: int, bodies: Sequence[bytes]) -> None:
        """Take back the publications from place `first` of the index on, if they reach those that are held."""
        if bodies and first + len(bodies) == self.count - len(self.bodies):
            self.bodies[:0] = bodies
            self.body_bytes += sum(map(len, bodies))

    def place_of(self, sequence: int) -> int:
        """Return where a publication stands in the index, which has it."""
        return bisect_left(self.sequences, sequence)

    def body(self, place: int) -> bytes | None:
        """Return the publication at a place of the index, as it stands in a reply; None: not held."""
        at = place - self.count + len(self.bodies)
        if at < 0:
            return None
        body = self.bodies[at]
        if is_packed(body):
            return body
        written = packed_of(self.entries[2 * place], self.entries[2 * place + 1], body)
        self.bodies[at] = written
        self.body_bytes += len(written) - len(body)
        return written

    def _drop_index(self, count: int, *, stored: bool = True) -> None:
        """Forget the oldest `count`; `stored`: they may be in the stream still."""
        if not count:
            return
        self._drop_bodies(count - (self.count - len(self.bodies)))
        self.stood = self.newest if count == self.count else self.stood
        self.gone, self.gone_time = self.entries[2 * count - 2 : 2 * count]
        self.floor = max(self.floor, self.gone)
        if stored:
            self.indexed = max(self.indexed, self.gone)
        del self.entries[: 2 * count]

    def _drop_bodies(self, count: int) -> None:
        if count > 0:
            self.body_bytes -= sum(map(len, self.bodies[:count]))
            del self.bodies[:count]
