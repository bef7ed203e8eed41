"""A stream and the history service in front of it, in memory: the test says when calls are answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from tidewire.edge.ports import Outcome, Page, Publication, Query
from tidewire.edge.wire.commands import StreamPosition
from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError

AWAY = errors.INTERNAL.saying("temporarily not possible: the history service is away")


class Call:
    """A call that is under way."""

    def __init__(self, make: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._make = make
        self._done = done
        self._made: Any = None

    def prepare(self) -> None:
        """Make up the answer, once."""
        if self._made is None:
            self._made = self._make()

    def end(self) -> None:
        """Give it."""
        self.prepare()
        self._done(self._made)


class FakeHistory:
    """Implements `ports.History`. `stream` is one partition's, which all channels of the test share."""

    def __init__(self) -> None:
        self.epoch = "life1"
        self.sequence = 0
        self.now = 1_000
        self.stored: dict[str, list[Publication]] = {}
        self.trimmed: dict[str, int] = {}
        """The greatest offset of each channel that was stored and is gone."""
        self.away = False
        self.unknown: set[str] = set()
        """Channels of which no replica can say where they stand."""
        self.queries: list[Query] = []
        self.asked: list[list[str]] = []
        self.waiting: list[Call] = []
        """Calls that are under way."""

    # The stream.

    def publish(self, channel: str, data: object, **fields: object) -> Publication:
        """Store a publication; what comes back is what the stream publishes again."""
        kept = self.stored.setdefault(channel, [])
        self.sequence += 1
        self.now += 1
        publication = Publication(
            json.dumps(data).encode(),
            offset=self.sequence,
            previous=kept[-1].offset if kept else 0,
            time_ns=self.now,
            **fields,  # type: ignore[arg-type]
        )
        kept.append(publication)
        return publication

    def elsewhere(self, count: int = 1) -> None:
        """Publications of other channels."""
        self.sequence += count

    def trim(self, channel: str, left: int) -> None:
        """Keep only so many of a channel's publications."""
        kept = self.stored.get(channel, [])
        gone, self.stored[channel] = kept[: len(kept) - left], kept[len(kept) - left :]
        if gone:
            self.trimmed[channel] = gone[-1].offset

    def begin_anew(self, *, sequence: int = 0) -> None:
        """Another life of the stream: nothing is stored, and it counts from `sequence`."""
        self.epoch = f"life{int(self.epoch[4:]) + 1}"
        self.sequence = sequence
        self.stored.clear()
        self.trimmed.clear()

    def top(self, channel: str) -> StreamPosition:
        """Where a channel stands."""
        kept = self.stored.get(channel)
        return StreamPosition(offset=kept[-1].offset if kept else self.sequence, epoch=self.epoch)

    # ports.History

    def read(self, query: Query, done: Callable[[Page | ReplyError], None]) -> None:
        self.queries.append(query)
        self.waiting.append(Call(lambda: self._answer(query), done))

    def positions(
        self,
        since: Mapping[str, StreamPosition],
        done: Callable[[Sequence[StreamPosition | None] | ReplyError], None],
    ) -> None:
        self.asked.append(list(since))
        self.waiting.append(Call(lambda: AWAY if self.away else list(map(self._told, since.items())), done))

    def _told(self, asked: tuple[str, StreamPosition]) -> StreamPosition | None:
        channel, since = asked
        if channel in self.unknown:
            return None
        top = self.top(channel)
        empty = not self.stored.get(channel) and self.trimmed.get(channel, 0) <= since.offset <= top.offset
        return since if empty and since.epoch == top.epoch else top

    def _answer(self, query: Query) -> Page | ReplyError:
        page = AWAY if self.away else self.page(query)
        if isinstance(page, Page) and page.top.offset < query.at_least and page.outcome is Outcome.COMPLETE:
            return AWAY  # what it has is older than what the edge knows
        return page

    def answer(self, index: int = 0) -> None:
        """Answer one call that is under way, as the stream is now unless it was `prepare`d."""
        call = self.waiting[index]
        del self.waiting[index]
        call.end()

    def prepare(self, index: int = 0) -> None:
        """Make up the answer to a call as the stream is now; it is on its way until `answer`."""
        self.waiting[index].prepare()

    def settle(self) -> None:
        """Answer all calls, and those that follow from them."""
        for _ in range(1000):
            if not self.waiting:
                return
            self.answer()
        raise AssertionError("there is no end to the calls")

    def page(self, query: Query) -> Page:
        """What the service answers."""
        top = self.top(query.channel)
        kept = [replace(each, previous=0) for each in self.stored.get(query.channel, [])]
        if query.recover:
            assert query.since is not None
            return self._recovery(query, query.since, kept, top)
        since = query.since
        if since is not None:
            kept = [
                each
                for each in kept
                if (each.offset < since.offset if query.reverse else each.offset > since.offset)
            ]
        ordered = kept[::-1] if query.reverse else kept
        found = ordered[: query.limit]
        return Page(top, found, Outcome.MORE if len(ordered) > len(found) else Outcome.COMPLETE)

    def _recovery(
        self, query: Query, since: StreamPosition, kept: list[Publication], top: StreamPosition
    ) -> Page:
        if since.epoch not in {"", top.epoch} or since.offset > top.offset:
            return Page(top, (), Outcome.OTHER_EPOCH)
        if since.offset < self.trimmed.get(query.channel, 0):
            return Page(top, (), Outcome.TRIMMED)
        found = [each for each in kept if each.offset > since.offset]
        if len(found) > query.limit or sum(len(each.data) for each in found) > query.max_bytes:
            return Page(top, (), Outcome.TOO_MANY)
        return Page(top, found)
