"""Connections that are about to enter a channel with history: what they wish for, and from where on they take part. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire.edge.ports import Outcome, Page, Publication
from tidewire.edge.wire.commands import StreamPosition

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.effects import Wish
    from tidewire.edge.timeline import Timeline

MAX_REPLY: Final = 512 * 1024
"""Bytes of the publications of one reply. SDKs close at 1 MiB, and would come back for the same again."""
COST: Final = 128
"""Bytes that a publication takes besides data, info and tags, at most."""
REFUSALS: Final = frozenset({Outcome.TRIMMED, Outcome.OTHER_EPOCH, Outcome.TOO_MANY})


class Entry(msgspec.Struct, frozen=True):
    """From where on a connection takes part, and what it is told of before. `recovered` is None where it did not ask.

    `size` are the bytes that the publications take in a reply, at most.
    """

    top: StreamPosition
    recovered: bool | None = None
    publications: Sequence[Publication] = ()
    size: int = 0


class Place:
    """A connection's place in a channel that it has joined: until it enters, what it would miss is kept for it.

    `page` is what history has shown of what it missed, None while that is not known, or cannot be had.
    """

    __slots__ = (
        "attempt",
        "channel_id",
        "connection",
        "page",
        "settled",
        "timeline",
        "told",
        "tries",
        "wish",
    )

    def __init__(self, connection: Connection, attempt: int, wish: Wish, channel_id: int = 0) -> None:
        self.connection = connection
        self.attempt = attempt
        self.wish = wish
        self.channel_id = channel_id
        self.page: Page | None = None
        self.timeline: Timeline | None = None
        self.settled = False
        """Whether it may enter."""
        self.tries = 0
        self.told = ""
        """What became of its recovery, "" where it asked for none."""

    def take(self, timeline: Timeline) -> None:
        """Have it kept what is passed on from now on."""
        self.leave()
        self.timeline = timeline
        timeline.retain()

    def leave(self) -> None:
        """Have nothing kept any more: it has entered, or never will."""
        if self.timeline is not None:
            self.timeline.release()
            self.timeline = None

    def seated(self) -> bool:
        """Return whether it may enter now; if not, history has to show what it missed."""
        timeline = self.timeline
        if timeline is None or not timeline.known:
            return False
        since = self.wish.since
        if since is None:
            return True
        if not self.wish.latest:
            if since.epoch not in {"", timeline.epoch}:
                return True
            if timeline.reaches(since.offset):
                self.page = Page(StreamPosition(offset=since.offset, epoch=timeline.epoch))
        return self._has_page(timeline)

    def offer(self, page: Page | None) -> None:
        """Take what history has shown of what it missed: it may be too old by now."""
        self.page = page

    def _has_page(self, timeline: Timeline) -> bool:
        page = self.page
        if page is None or page.top.epoch != timeline.epoch:
            return False
        return page.outcome in REFUSALS or timeline.reaches(page.top.offset)

    def entry(self, room: int = MAX_REPLY) -> Entry:
        """Return what the connection is told as it enters now, in at most `room` bytes."""
        timeline = self.timeline
        if timeline is None:
            raise AssertionError("a place that was left")
        top = timeline.here
        if self.wish.since is None:
            return Entry(top)
        found = self._found(timeline)
        size = sum(map(cost, found)) if found is not None else 0
        if found is not None and (len(found) > self.wish.limit or size > room):
            found, size, self.told = None, 0, Outcome.TOO_MANY.value
        return Entry(top, recovered=found is not None, publications=found or (), size=size)

    def _found(self, timeline: Timeline) -> list[Publication] | None:
        """Return what it missed, None where that cannot be proven to be all."""
        page, since = self.page, self.wish.since
        if page is None or since is None:  # it is of another epoch, or ahead
            self.told = Outcome.OTHER_EPOCH.value
            return None
        if page.outcome in REFUSALS:
            self.told = page.outcome.value
            return None
        if not timeline.reaches(page.top.offset):  # too much has come since
            self.told = Outcome.TOO_MANY.value
            return None
        self.told = "recovered"
        all_of_them = [*page.publications, *timeline.beyond(page.top.offset)]
        if self.wish.latest:
            return self._latest(all_of_them, since, timeline)
        return [each for each in all_of_them if each.offset > since.offset]

    def _latest(
        self, publications: list[Publication], since: StreamPosition, timeline: Timeline
    ) -> list[Publication] | None:
        """Return the latest publication, none where the client has it; None where there is none that it could have."""
        top = publications[-1].offset if publications else timeline.offset
        if (since.offset, since.epoch) == (top, timeline.epoch):
            return []
        self.told = "recovered" if publications else "empty"
        return publications[-1:] or None


def cost(publication: Publication) -> int:
    """Return how many bytes a publication takes in a reply, at most, where its data are not a JSON string."""
    said = COST + len(publication.data) + len(publication.info or b"")
    if not publication.tags:
        return said
    return said + 6 * sum(len(name) + len(value) for name, value in publication.tags.items())
