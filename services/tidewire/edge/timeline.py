"""Where a channel with history stands on this edge, and what comes next: pages of history and live publications in one line.

All members of a channel are sent the same publications in the same order, so a position belongs to the channel: `offset`,
the last one that was passed on. A live publication names the one that was stored before it. Where that is the last one
passed on, it is next; where it is not, nothing is passed on until history has shown what is between. Pure.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from tidewire.edge.ports import Outcome
from tidewire.edge.wire.commands import StreamPosition

if TYPE_CHECKING:
    from tidewire.edge.ports import Page, Publication

MAX_KEPT = 1000
"""Publications of a channel that are held back, or kept for those who are about to enter."""
MAX_KEPT_BYTES = 1024 * 1024
"""Bytes that they take in memory, about."""
MAX_EVERYWHERE = 64 * 1024 * 1024
"""Bytes of that over all channels of an edge."""
OVERHEAD = 320
"""Bytes that a publication takes beside what it carries."""
TAG_OVERHEAD = 320
"""The same for each of its tags."""


class Verdict(enum.Enum):
    """What a live publication is to its channel."""

    NEXT = "next"
    """To be passed on."""
    DUPLICATE = "duplicate"
    HELD = "held"
    """It waits until history has answered."""
    GAP = "gap"
    """The same, and history has to be asked."""
    LOST = "lost"
    """The stream went back, or too much is held: what the members have can no longer be continued."""


class Room:
    """What all timelines of an edge may keep together."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = MAX_EVERYWHERE) -> None:
        self.limit = limit
        self.used = 0


def weight(publication: Publication) -> int:
    """Return how many bytes a publication takes in memory, about: most are small, so that their data are the least of it."""
    tags = publication.tags or {}
    said = sum(len(name) + len(value) for name, value in tags.items())
    return OVERHEAD + TAG_OVERHEAD * len(tags) + said + len(publication.data) + len(publication.info or b"")


class Kept:
    """Publications of one channel in order, within the bounds above."""

    __slots__ = ("_publications", "_room", "_size")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._publications: list[Publication] = []
        self._size = 0

    def __len__(self) -> int:
        return len(self._publications)

    def add(self, publication: Publication) -> bool:
        """Keep one more; False, and not kept, where there is no room."""
        size = weight(publication)
        full = len(self) >= MAX_KEPT or self._size + size > MAX_KEPT_BYTES
        if full or self._room.used + size > self._room.limit:
            return False
        self._publications.append(publication)
        self._size += size
        self._room.used += size
        return True

    def beyond(self, offset: int) -> list[Publication]:
        """Return those with a greater offset."""
        return [each for each in self._publications if each.offset > offset]

    def newest(self) -> int:
        """Return the greatest offset, 0 where nothing is kept."""
        return max((each.offset for each in self._publications), default=0)

    def take(self) -> list[Publication]:
        """Return all, and keep nothing."""
        taken, self._publications = self._publications, []
        self._room.used -= self._size
        self._size = 0
        return taken


class Timeline:
    """One channel's line of publications, `epoch` "" until history has said where the channel stands.

    `proven`: that nothing is missing can be proven. Otherwise whatever is newer is next.
    """

    __slots__ = (
        "_held",
        "_holding",
        "_tail",
        "_tail_from",
        "_time_ns",
        "_users",
        "broken",
        "doubted",
        "ended",
        "epoch",
        "expected",
        "offset",
        "proven",
        "tries",
    )

    def __init__(self, room: Room, *, proven: bool) -> None:
        self.proven = proven
        self.epoch = ""
        self.offset = 0
        self.expected = 0
        """The greatest offset that history has named."""
        self.doubted = False
        """Whether history has to confirm that the position still holds."""
        self.tries = 0
        """How often in a row history was asked in vain for what follows."""
        self.ended = False
        """Whether a message has shown that the stream is another one by now."""
        self.broken = False
        """Whether what the members have can no longer be continued."""
        self._time_ns = 0
        """When the last publication was stored; 0: not known."""
        self._holding = True
        self._held = Kept(room)
        self._tail = Kept(room)
        """What was passed on beyond `_tail_from`, while somebody is about to enter."""
        self._tail_from = 0
        self._users = 0

    @property
    def known(self) -> bool:
        """Whether history has said where the channel stands."""
        return bool(self.epoch)

    @property
    def here(self) -> StreamPosition:
        """The position, where it is known."""
        return StreamPosition(offset=self.offset, epoch=self.epoch)

    @property
    def holding(self) -> bool:
        """Whether publications wait until history has answered."""
        return self._holding

    @property
    def behind(self) -> bool:
        """Whether history has named a publication that has not been passed on."""
        return self.expected > self.offset

    @property
    def at_least(self) -> int:
        """The greatest offset that is known to exist."""
        return max(self.offset, self.expected, self._held.newest())

    # What is live.

    def take(self, publication: Publication) -> Verdict:
        """Take a live publication."""
        if self._holding:
            return Verdict.HELD if self._held.add(publication) else Verdict.LOST
        return self._judge(publication)

    def _judge(self, publication: Publication) -> Verdict:
        if publication.offset <= self.offset:
            if self._time_ns and publication.time_ns > self._time_ns:
                self.ended = True
                return Verdict.LOST
            if (
                self.proven and not self._time_ns
            ):  # it may be of another life of the stream, and so what follows it
                self.doubted = self._holding = True
            return Verdict.DUPLICATE
        follows = (
            publication.previous == self.offset and publication.previous
        )  # 0: what was between is gone, if any was
        if self.proven and not follows:
            self._holding = True
            return Verdict.GAP if self._held.add(publication) else Verdict.LOST
        self._advance(publication)
        return Verdict.NEXT

    # What history says.

    def absorb(self, page: Page, since: int | None) -> list[Publication]:
        """Take a page that holds all behind the offset `since` (None: it does not); return what is passed on now.

        What the page shows beyond what was passed on goes first, then what was held, as far as it follows. Where that is
        none of it, the line is `broken`.
        """
        if not self.known:
            self._begin(page)
            return self._release([])
        if page.top.epoch != self.epoch:
            self.doubted = True
            return []
        whole = since is not None and since <= self.offset and page.outcome is Outcome.COMPLETE
        if not whole or page.top.offset < self.offset:
            self.expected = max(self.expected, page.top.offset)
            return []
        self.doubted = False
        news = self._follow(page)
        return self._release(news) if self._holding else news

    def _begin(self, page: Page) -> None:
        self.epoch = page.top.epoch
        self.offset = self._tail_from = page.top.offset
        newest = page.publications[-1] if page.publications else None
        if newest is not None and newest.offset == self.offset:
            self._time_ns = newest.time_ns

    def _follow(self, page: Page) -> list[Publication]:
        news = [each for each in page.publications if each.offset > self.offset]
        for publication in news:
            self._advance(publication)
        if page.top.offset > self.offset:  # nothing that is stored is between
            self.offset = page.top.offset
            self._time_ns = 0
        return news

    def _release(self, passed: list[Publication]) -> list[Publication]:
        """Pass on what was held, as far as it follows; the rest is held again."""
        self._holding = False
        for publication in self._held.take():
            verdict = self.take(publication)
            if verdict is Verdict.NEXT:
                passed.append(publication)
            elif verdict is Verdict.LOST:
                self.broken = self._holding = True
                self._held.add(publication)
        return passed

    def give_up(self) -> list[Publication]:
        """Return what is held, for those who were promised nothing: the line ends here."""
        self._tail.take()
        return sorted(self._held.take(), key=lambda each: each.offset)

    # Who is about to enter.

    def retain(self) -> None:
        """Keep what is passed on from now on, until as many `release`s."""
        if not self._users:
            self._tail_from = self.offset
        self._users += 1

    def release(self) -> None:
        """Let go of it."""
        self._users -= 1
        if not self._users:
            self._tail.take()

    def reaches(self, offset: int) -> bool:
        """Return whether all that was passed on beyond this offset is kept, and that is not ahead of the channel."""
        return self._tail_from <= offset <= self.offset

    def beyond(self, offset: int) -> list[Publication]:
        """Return what was passed on beyond an offset that it `reaches`."""
        return self._tail.beyond(offset)

    def _advance(self, publication: Publication) -> None:
        self.offset = publication.offset
        self._time_ns = publication.time_ns
        if self._users and not self._tail.add(publication):
            self._tail.take()
            self._tail_from = publication.offset
