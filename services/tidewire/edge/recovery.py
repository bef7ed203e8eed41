"""Channels with history on this edge: who enters where, what fills a gap, and what happens where nothing does.

A channel begins to have a position with the first member that wishes for one. From then on its publications go through its
`Timeline`; where that cannot go on, those who were promised to miss nothing are let go, and come back with their positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from tidewire.edge.ended_lives import EndedLives
from tidewire.edge.places import Place
from tidewire.edge.ports import Outcome
from tidewire.edge.queries import Key, Want, query
from tidewire.edge.recent_pages import RecentPages
from tidewire.edge.timeline import Room, Timeline, Verdict
from tidewire.edge.wire.commands import StreamPosition
from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError
from tidewire.kernel.wheel import Wheel

if TYPE_CHECKING:
    from tidewire.edge.channel import StoredChannel
    from tidewire.edge.ports import Metrics, Page, Publication
    from tidewire.edge.reads import Reads

    class Floor(Protocol):
        """Where the members are."""

        def pass_on(self, channel: StoredChannel, publications: Iterable[Publication]) -> None:
            """Send publications to all members of a channel, with what else comes in this turn."""

        def admit(self, channel: StoredChannel, place: Place, error: ReplyError | None) -> None:
            """Tell a connection that it may enter, or why it may not."""

        def cast_out(self, channel: StoredChannel) -> None:
            """End the memberships that were promised to miss nothing, before anything else is passed on."""

        def flush(self) -> None:
            """Write what was passed on."""


MAX_TRIES: Final = 4
"""How often history is asked for the same, when it has not answered, or what it said was too old by then."""
PAUSE_TICKS: Final = 10
"""Before it is asked again for what fills a gap, and it has not answered."""
STALE_TICKS: Final = 2
"""The same where it has, and did not know yet what this edge knows."""
UNSETTLED: Final = errors.INTERNAL.saying(
    "temporarily not possible: the channel's position cannot be learned"
)


class Recovery:
    """The timelines of an edge; `floor` is its hub."""

    def __init__(self, reads: Reads, metrics: Metrics, floor: Floor) -> None:
        self.reads = reads
        self._metrics = metrics
        self._floor = floor
        self._room = Room()
        self._recent = RecentPages(self._room)
        self._ended = EndedLives()
        self._again: Wheel[StoredChannel] = Wheel()
        self.channels: dict[StoredChannel, None] = {}
        """Those with a timeline."""
        self.watch: Callable[[StoredChannel], None] = _nobody
        """Told of channels to look at soon: their position has just been learned, or history has named what is still to come."""

    @property
    def kept(self) -> int:
        """Bytes that are held back or kept."""
        return self._room.used

    # Who enters.

    def join(self, channel: StoredChannel, place: Place) -> bool | ReplyError:
        """Find a place: True where the connection may enter at once; False: `settle` tells later."""
        timeline = channel.timeline
        if timeline is None:
            timeline = channel.timeline = Timeline(self._room, proven=place.wish.proven)
            self.channels[channel] = None
        place.take(timeline)
        if place.seated() or self._is_seated_by_another(channel, timeline, place):
            place.settled = True
            return True
        error = self._ask_for(channel, timeline, place)
        if error is not None:
            place.leave()
            self._end_if_unused(channel, timeline)
            return error
        return False

    def _is_seated_by_another(self, channel: StoredChannel, timeline: Timeline, place: Place) -> bool:
        """Return whether it may enter with what history has just shown somebody with the same position."""
        if place.wish.since is None or not timeline.known:
            return False
        key = self._key(channel, timeline, place)
        page = self._recent.find(channel, key) if isinstance(key, StreamPosition) else None
        if page is None:
            return False
        place.offer(page)
        if place.seated():
            self._metrics.page_reused()
            return True
        place.offer(None)
        return False

    def _ask_for(self, channel: StoredChannel, timeline: Timeline, place: Place) -> ReplyError | None:
        key = self._key(channel, timeline, place)
        waiting = channel.reads.get(key)
        if waiting is not None:
            waiting.append(place)
            return None
        error = self._read(channel, timeline, key, place.wish.limit)
        if error is None:
            channel.reads[key].append(place)
        return error

    def _key(self, channel: StoredChannel, timeline: Timeline, place: Place) -> Key:
        since = place.wish.since
        if since is None:  # whatever is read tells the position
            return next(iter(channel.reads), Want.LATEST)
        if place.wish.latest:
            return Want.LATEST if not timeline.behind else Want.FILL
        if not timeline.known:
            return since
        if since.offset > timeline.offset:
            return Want.FILL
        return StreamPosition(offset=since.offset, epoch=timeline.epoch)

    def _read(
        self, channel: StoredChannel, timeline: Timeline, key: Key, limit: int = 0
    ) -> ReplyError | None:
        asked = query(channel.name, timeline, key, limit)
        since = asked.since.offset if asked.recover and asked.since is not None else None
        error = self.reads.ask(
            asked, partial(self._answered, channel, timeline, key, since), urgent=key is Want.FILL
        )
        if error is None:
            channel.reads[key] = []
        return error

    # What is live.

    def follow(self, channel: StoredChannel, publication: Publication) -> None:
        """Take a live publication of a channel that has a timeline."""
        timeline = channel.timeline
        if timeline is None:
            raise AssertionError("a channel without a position")
        match timeline.take(publication):
            case Verdict.NEXT:
                self._floor.pass_on(channel, (publication,))
            case Verdict.DUPLICATE:
                self._metrics.duplicate_dropped()
                if timeline.doubted:
                    self._mend(channel, timeline)
            case Verdict.GAP:
                self._metrics.gap("found")
                self._mend(channel, timeline)
            case Verdict.LOST:
                self._break(channel, timeline, (publication,))

    # What history says.

    def _answered(
        self,
        channel: StoredChannel,
        timeline: Timeline,
        key: Key,
        since: int | None,
        result: Page | ReplyError,
    ) -> None:
        if channel.timeline is not timeline:  # let go meanwhile, or it has begun anew
            return
        places = channel.reads.pop(key)
        if not isinstance(result, ReplyError) and result.top.epoch in self._ended:
            result = UNSETTLED
        if isinstance(result, ReplyError):
            self._unanswered(channel, timeline, key, places, result)
            return
        if isinstance(key, StreamPosition) and result.outcome is Outcome.COMPLETE:
            self._recent.keep(channel, StreamPosition(offset=key.offset, epoch=result.top.epoch), result)
        before = timeline.offset
        self._take(channel, timeline, result, since)
        if timeline.broken or (key is Want.FILL and not _holds(timeline, result, before)):
            channel.reads[key] = places
            self._break(channel, timeline)
        else:
            for place in places:
                place.offer(None if key is Want.FILL else result)
                self._seat(channel, timeline, place, key)
            if timeline.tries:
                self._again.add(channel, STALE_TICKS)
            else:
                self._mend(channel, timeline)
        self._floor.flush()

    def _take(self, channel: StoredChannel, timeline: Timeline, page: Page, since: int | None) -> None:
        known, holding = timeline.known, timeline.holding
        self._floor.pass_on(channel, timeline.absorb(page, since))
        if not known or timeline.behind:
            self.watch(channel)
        elif holding and not timeline.holding:
            self._metrics.gap("filled")

    def _seat(self, channel: StoredChannel, timeline: Timeline, place: Place, key: Key) -> None:
        if place.timeline is not timeline:  # it has left
            return
        place.tries += 1
        if place.seated() or (key is Want.FILL and _is_ahead(place, timeline)):
            self._admit(channel, place)
        elif place.tries >= MAX_TRIES:
            self._turn_away(channel, place, UNSETTLED)
        else:
            error = self._ask_for(channel, timeline, place)
            if error is not None:
                self._turn_away(channel, place, error)

    def _admit(self, channel: StoredChannel, place: Place) -> None:
        place.settled = True
        self._floor.admit(channel, place, None)

    def _turn_away(self, channel: StoredChannel, place: Place, error: ReplyError) -> None:
        place.leave()
        self._floor.admit(channel, place, error)

    def _unanswered(
        self, channel: StoredChannel, timeline: Timeline, key: Key, places: list[Place], error: ReplyError
    ) -> None:
        for place in places:
            if place.timeline is timeline:
                self._turn_away(channel, place, error)
        if key is Want.FILL:
            timeline.tries += 1
            if timeline.tries >= MAX_TRIES:
                self._break(channel, timeline)
            else:
                self._again.add(channel, PAUSE_TICKS)
        self._end_if_unused(channel, timeline)
        self._floor.flush()

    def _end_if_unused(self, channel: StoredChannel, timeline: Timeline) -> None:
        """Let go of a timeline that nobody waits for any more, and that never came to have a position."""
        if not timeline.known and not channel.reads and channel.timeline is timeline:
            self._end(channel)
            self._floor.pass_on(channel, timeline.give_up())

    # Gaps.

    def doubt(self, channel: StoredChannel) -> None:
        """Have history confirm a channel's position, or say what is missing."""
        if channel.timeline is not None:
            channel.timeline.doubted = True
            self._mend(channel, channel.timeline)

    def tick(self) -> None:
        """Ask again for what was not answered."""
        self._recent.tick()
        self._ended.tick()
        for channel in self._again.advance():
            if channel.timeline is not None:
                self._mend(channel, channel.timeline)

    def _mend(self, channel: StoredChannel, timeline: Timeline) -> None:
        """Ask for what follows, where that is in doubt."""
        if channel.timeline is not timeline or not timeline.known or Want.FILL in channel.reads:
            return
        if timeline.holding or timeline.doubted:
            self._read(channel, timeline, Want.FILL)

    def _break(self, channel: StoredChannel, timeline: Timeline, rest: Iterable[Publication] = ()) -> None:
        """End the line: who was promised to miss nothing is let go, who is about to enter begins anew."""
        self._metrics.gap("lost")
        if timeline.ended:
            self._ended.add(timeline.epoch)
        reads = channel.reads
        self._end(channel)
        self._floor.cast_out(channel)
        self._floor.pass_on(channel, [*timeline.give_up(), *rest])
        for place in [place for places in reads.values() for place in places]:
            if place.timeline is timeline:
                self._begin_anew(channel, place)

    def _begin_anew(self, channel: StoredChannel, place: Place) -> None:
        place.page = None
        outcome = self.join(channel, place)
        if isinstance(outcome, ReplyError):
            self._floor.admit(channel, place, outcome)
        elif outcome:
            self._floor.admit(channel, place, None)

    def forget(self, channel: StoredChannel) -> None:
        """Let go of a channel that is no longer heard."""
        if channel.timeline is not None:
            channel.timeline.give_up()
        self._end(channel)

    def _end(self, channel: StoredChannel) -> None:
        channel.timeline = None
        channel.reads = {}
        self.channels.pop(channel, None)


def _holds(timeline: Timeline, page: Page, before: int) -> bool:
    """Return whether the position may still hold after a page that was to fill what follows it, or confirm it."""
    if page.outcome is not Outcome.COMPLETE or page.top.epoch != timeline.epoch:
        return False
    settled = not (timeline.holding or timeline.doubted)
    timeline.tries = 0 if settled or timeline.offset > before else timeline.tries + 1
    return timeline.tries < MAX_TRIES


def _is_ahead(place: Place, timeline: Timeline) -> bool:
    """Return whether the client's position is one that the channel has not reached, although history was asked."""
    since = place.wish.since
    return since is not None and not place.wish.latest and since.offset > timeline.offset


def _nobody(_channel: StoredChannel) -> None:
    """Stand in until the sweep listens."""
