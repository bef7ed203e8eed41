"""What the service notes in the cluster about each stream, so that no replica and no restart forgets it. Pure.

In the bucket TW_META, for each stream: `notes.<stream>`, sequences with their time stamps, by which a stream that went back
is found out; `nonce.<stream>`, made when it was; `purges.<stream>`, which channels were purged how far.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from tidewire.history.feed import Facts

NOTES_KEPT: Final = 8
PURGES_KEPT: Final = 64
KINDS: Final = ("nonce", "notes", "purges")

_NOTES = msgspec.json.Decoder(list[tuple[int, int]])


class Record(msgspec.Struct, frozen=True):
    """A value of the bucket. `revision` is 0 where there is none; `epoch` is the life that it was written in, "" if any."""

    value: bytes = b""
    revision: int = 0
    epoch: str = ""


ABSENT: Final = Record()
Records = Mapping[str, Record]


class Purges(msgspec.Struct, frozen=True):
    """`recent`: the newest purges, (subject, the sequence up to which it was purged). `count`: of all that there were.

    Nothing of (S, ...] can be proven by the stream where S is below `floor`: purges that are not listed any more, or a limit
    that was raised. `limit` is the most publications of a subject that the stream had then (0: none, or not known yet).
    """

    count: int = 0
    floor: int = 0
    limit: int = 0
    recent: list[tuple[str, int]] = []

    def with_purge(self, subject: str, through: int) -> Purges:
        """Return the record with one more purge."""
        recent = [*self.recent, (subject, through)]
        dropped = recent[:-PURGES_KEPT]
        floor = max([self.floor, *(sequence for _, sequence in dropped)])
        return Purges(self.count + 1, floor, self.limit, recent[-PURGES_KEPT:])

    def with_limit(self, limit: int, last: int) -> Purges:
        """Return the record for a stream with another limit. Under a raised one, a low count says nothing about the past."""
        raised = self.limit and (limit > self.limit or not limit)
        return Purges(self.count, last if raised else self.floor, limit, self.recent)

    def through(self, subject: str) -> int:
        """Return how far a subject may have been purged: below, the stream proves nothing."""
        return max([self.floor, *(sequence for name, sequence in self.recent if name == subject)])


def purges_of(record: Record, epoch: str, last: int) -> Purges:
    """Return what is noted in this life of a stream that ends at `last` now.

    Where nothing of use is, but something was, nothing before now can be proven by the stream.
    """
    if not record.value:
        return Purges()
    try:
        noted = msgspec.json.decode(record.value, type=Purges)
    except msgspec.MsgspecError:
        return Purges(floor=last)
    return noted if record.epoch == epoch else Purges(floor=last)


def notes_of(record: Record, epoch: str) -> list[tuple[int, int]]:
    """Return (sequence, time stamp in nanoseconds) pairs, oldest first; none where they are of another life."""
    if record.epoch != epoch or not record.value:
        return []
    try:
        return sorted(_NOTES.decode(record.value))
    except msgspec.MsgspecError:
        return []


def with_note(notes: list[tuple[int, int]], sequence: int, time_ns: int) -> list[tuple[int, int]] | None:
    """Return the notes with one more; None where there is nothing new to note. They are never lowered."""
    if sequence <= (notes[-1][0] if notes else 0):
        return None
    return [*notes, (sequence, time_ns)][-NOTES_KEPT:]


def went_back(heard: int, facts: Facts, notes: list[tuple[int, int]]) -> str:
    """Return how a stream shows that it is not what it was; "" where it does not. `heard`: before it was asked."""
    if facts.last < heard:
        return f"it ends at {facts.last}, and {heard} was heard"
    if notes and facts.last < notes[-1][0]:
        return f"it ends at {facts.last}, and {notes[-1][0]} was noted"
    return ""
