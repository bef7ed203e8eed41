"""What may be answered from a timeline: the publications to show, or what must be asked of the stream first. Pure."""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tidewire.history.timeline import Timeline


class Since(NamedTuple):
    """A position as a caller gives it."""

    offset: int
    epoch: str

    @property
    def is_start(self) -> bool:
        """Whether it stands before everything, in any life."""
        return not self.offset and not self.epoch


NOWHERE = Since(0, "")
"""Of who does not say where it stands."""


class Query(NamedTuple):
    """What is read. `since` is None for the whole history."""

    channel: str
    since: Since | None
    limit: int
    reverse: bool
    max_bytes: int
    at_least: int
    recover: bool


class Publication(NamedTuple):
    """One publication of an answer; `body` is what `packed` makes of it."""

    offset: int
    body: bytes


class Answer(NamedTuple):
    """A channel's position and some of its publications."""

    offset: int
    epoch: str
    publications: Sequence[Publication]
    outcome: Outcome


class Outcome(enum.Enum):
    """How a read ends; the names are those of the protocol."""

    COMPLETE = 1
    MORE = 2
    TRIMMED = 3
    OTHER_EPOCH = 4
    TOO_MANY = 5


class Need(enum.Enum):
    """What the timeline lacks. PROOF: that nothing behind the position has gone. INDEX: what is stored before it begins."""

    PROOF = "proof"
    INDEX = "index"


class Shown(NamedTuple):
    """The sequences of an answer, in its order, and how it ends."""

    sequences: list[int]
    outcome: Outcome


class Window(NamedTuple):
    """What a namespace lets be read: the newest `size` that were stored at or after `oldest_ns`."""

    size: int
    oldest_ns: int


NOTHING_SHOWN = {outcome: Shown([], outcome) for outcome in Outcome}


def decide(timeline: Timeline, query: Query, window: Window, *, oldest_first: bool) -> Shown | Need:
    """Return what a query is shown. `oldest_first`: the stream loses publications of a channel in no other order."""
    feed, since = timeline.feed, query.since
    offset = None
    if since is not None and not since.is_start:
        if since.epoch != feed.epoch or since.offset > feed.heard:
            return NOTHING_SHOWN[Outcome.OTHER_EPOCH]
        offset = since.offset
    if query.recover:
        if not oldest_first:
            return NOTHING_SHOWN[Outcome.TRIMMED]
        return recovery(timeline, offset or 0, query.limit, window)
    if not query.limit:
        return NOTHING_SHOWN[Outcome.COMPLETE]
    if query.reverse:
        return page_back(timeline, offset, query.limit, window)
    return page(timeline, offset, query.limit, window)


def recovery(timeline: Timeline, since: int, limit: int, window: Window) -> Shown | Need:
    """Return all of (since, newest], or why it is not to be had; never more than `limit`."""
    behind = continuation(timeline, since, window)
    if not isinstance(behind, int):
        return behind
    found = timeline.sequences[behind:]
    if len(found) > limit:
        return NOTHING_SHOWN[Outcome.TOO_MANY]
    return Shown(found.tolist(), Outcome.COMPLETE)


def continuation(timeline: Timeline, since: int, window: Window) -> int | Shown | Need:
    """Return the place in the index from which on is all that was ever stored behind `since`, and can be read."""
    trimmed = NOTHING_SHOWN[Outcome.TRIMMED]
    if since < timeline.cut:
        return trimmed
    behind = bisect_right(timeline.sequences, since)
    count = timeline.count - behind
    if since < timeline.floor:
        gone = since < timeline.gone and (count >= window.size or timeline.gone_time < window.oldest_ns)
        return trimmed if gone or since <= timeline.hopeless else Need.PROOF
    if count > window.size or (count and min(timeline.times[behind:]) < window.oldest_ns):
        return trimmed
    return behind


def nothing_behind(timeline: Timeline, since: Since) -> bool:
    """Return whether it is known without asking the stream that nothing was ever stored behind a position."""
    newest = timeline.sequences[-1] if timeline.sequences else 0
    known = max(timeline.floor, newest) <= since.offset <= timeline.feed.heard
    return known and since.epoch == timeline.feed.epoch


def page(timeline: Timeline, since: int | None, limit: int, window: Window) -> Shown | Need:
    """Return up to `limit` publications behind `since` (None: from the oldest on), oldest first."""
    first, certain = visible(timeline, window)
    if since is not None:
        behind = continuation(timeline, since, window)
        if not isinstance(behind, int):
            return behind
        first = behind
    elif not certain:
        return Need.INDEX
    found = timeline.sequences[first : first + limit].tolist()
    return Shown(found, Outcome.MORE if timeline.count - first > limit else Outcome.COMPLETE)


def page_back(timeline: Timeline, before: int | None, limit: int, window: Window) -> Shown | Need:
    """Return up to `limit` publications before `before` (None: from the newest on), newest first."""
    first, certain = visible(timeline, window)
    end = timeline.count if before is None else bisect_left(timeline.sequences, before)
    end = max(first, end)
    if end - first <= limit and not certain:
        return Need.INDEX
    found = timeline.sequences[max(first, end - limit) : end].tolist()
    return Shown(found[::-1], Outcome.MORE if end - first > limit else Outcome.COMPLETE)


def visible(timeline: Timeline, window: Window) -> tuple[int, bool]:
    """Return the place in the index of the oldest publication that can be read, and whether none is missing before it."""
    total, times = timeline.count, timeline.times
    first = newest = max(0, total - window.size)
    while first < total and times[first] < window.oldest_ns:
        first += 1
    certain = timeline.indexed == 0 or total >= window.size or first > newest
    return first, certain or bool(timeline.gone and timeline.gone_time < window.oldest_ns)


def held(timeline: Timeline, sequences: Sequence[int]) -> tuple[dict[int, Publication], list[int]]:
    """Return the publications of an answer that memory has, and the sequences of those that it lacks."""
    found: dict[int, Publication] = {}
    missing: list[int] = []
    index = timeline.sequences
    count, place = len(index), -1
    step = -1 if len(sequences) > 1 and sequences[1] < sequences[0] else 1
    for sequence in sequences:
        if not 0 <= place < count or index[place] != sequence:  # they mostly follow each other in the index
            place = bisect_left(index, sequence)
        known = place < count and index[place] == sequence
        body = timeline.body(place) if known else None
        if body is None:
            missing.append(sequence)
        else:
            found[sequence] = Publication(sequence, body)
        place += step
    return found, missing


def answer(
    top: tuple[int, str], query: Query, shown: Shown, publications: Mapping[int, Publication]
) -> Answer:
    """Return the answer within `max_bytes`: a page ends there, after its first publication, and a recovery is none.

    `top` is where the channel stood when it was decided what is shown: what has come since is not in it.
    """
    taken: list[Publication] = []
    size, outcome = 0, shown.outcome
    for sequence in shown.sequences:
        publication = publications[sequence]
        size += len(publication.body)
        if size > query.max_bytes and (taken or query.recover):
            outcome = Outcome.TOO_MANY if query.recover else Outcome.MORE
            break
        taken.append(publication)
    if outcome is Outcome.TOO_MANY:
        taken = []
    return Answer(*top, taken, outcome)
