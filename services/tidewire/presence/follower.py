"""How far one life of an edge is followed in one partition: its sequence, its counts, and snapshots where they do not fit. Pure.

SYNCED: all changes up to `last` are applied. DOUBTED: they were, and the replica was away since; a heartbeat with the same
number and counts ends it. LACKING: something was missed; changes are kept until a snapshot comes that they continue.
"""

from __future__ import annotations

import enum
from typing import Final, Protocol

from tidewire.kernel.presence_wire import Change, Chunk, PartitionState
from tidewire.presence.content import SILENCE, Content, Notices, People

MOST_BUFFERED: Final = 100_000
"""Changes that may wait for a snapshot; beyond, it is asked for anew."""
OFTEN_BEHIND: Final = 2
"""Heartbeats in a row behind what was heard: more than one on its way cannot be, so somebody else spoke."""


class Progress(enum.Enum):
    """Where a follower stands."""

    SYNCED = "synced"
    DOUBTED = "doubted"
    LACKING = "lacking"


class Capacity(Protocol):
    """Whether the replica takes more."""

    full: bool


class Losses(Protocol):
    """Hears why a snapshot is needed: gap, counts, ahead, overflow, chunk, full, silence."""

    def lacking(self, reason: str) -> None:
        """Count it."""


class _Building:
    """A snapshot that is being received."""

    __slots__ = ("content", "last", "next")

    def __init__(self, content: Content, last: int) -> None:
        self.content = content
        self.last = last
        self.next = 0


class Follower:
    """One (edge, incarnation, partition). A new life has said nothing: at 0 it is whole."""

    __slots__ = (
        "_behind",
        "_buffer",
        "_buffered",
        "_building",
        "_capacity",
        "_losses",
        "ask",
        "content",
        "last",
        "progress",
        "weight",
    )

    def __init__(self, people: People, notices: Notices, capacity: Capacity, losses: Losses) -> None:
        self.content = Content(people, notices)
        self.last = 0
        self.progress = Progress.SYNCED
        self.ask: int | None = None
        """The number of the question that its snapshot is to answer."""
        self.weight = 0
        """Entries that a snapshot would have, as the edge last said."""
        self._capacity = capacity
        self._losses = losses
        self._behind = 0
        self._buffer: list[tuple[int, tuple[Change, ...]]] = []
        self._buffered = 0
        self._building: _Building | None = None

    @property
    def synced(self) -> bool:
        """Whether it may be answered from."""
        return self.progress is Progress.SYNCED

    @property
    def is_lacking(self) -> bool:
        """Whether a snapshot is needed."""
        return self.progress is Progress.LACKING

    @property
    def size(self) -> int:
        """How many entries it holds, those of an unfinished snapshot included."""
        building = () if self._building is None else self._building.content.counts
        return sum(self.content.counts) + sum(building) + self._buffered

    def delta(self, first: int, changes: tuple[Change, ...]) -> None:
        """Take changes of the numbers from `first` on."""
        if self.progress is Progress.LACKING:
            self._keep(first, changes)
        elif first > self.last + 1:
            self.lack("gap")
            self._keep(first, changes)
        elif first + len(changes) - 1 > self.last:
            if self._capacity.full:
                self.lack("full")
                return
            self.content.apply(changes[self.last + 1 - first :])
            self.last = first + len(changes) - 1

    def state(self, state: PartitionState) -> None:
        """Compare with what a heartbeat says."""
        self.weight = state.members + state.users + state.channels
        if self.progress is Progress.LACKING:
            return
        if state.last > self.last:
            self.lack("gap")
        elif state.last < self.last:
            self._behind += 1
            if self._behind >= OFTEN_BEHIND:
                self.lack("ahead")
        elif (state.members, state.users, state.channels) != self.content.counts:
            self.lack("counts")
        else:
            self._behind = 0
            self.progress = Progress.SYNCED

    def unsaid(self) -> None:
        """A heartbeat did not name this partition, though there is something in it."""
        if self.last and self.progress is Progress.DOUBTED:
            self.lack("gap")

    def doubt(self) -> None:
        """The replica may have missed something, for which the next heartbeat is the proof."""
        if self.progress is Progress.SYNCED:
            self.progress = Progress.DOUBTED

    def lack(self, reason: str) -> None:
        """A snapshot is needed, and one that is on its way is of no use."""
        self._losses.lacking(reason)
        self.progress = Progress.LACKING
        self.ask = None
        if self._building is not None:
            self._building.content.release()
            self._building = None
        self._buffer.clear()
        self._buffered = self._behind = 0

    def chunk(self, chunk: Chunk) -> bool:
        """Take a part of the snapshot that was asked for; return whether that is over, one way or the other."""
        building = self._building
        if chunk.index == 0 and building is None:
            building = self._building = _Building(Content(self.content.people, SILENCE), chunk.last)
        if building is None or chunk.last != building.last or chunk.index > building.next:
            self.lack("chunk")
            return True
        if chunk.index < building.next:
            return False  # it came twice
        if self._capacity.full:
            self.lack("full")
            return True
        building.content.apply(chunk.entries)
        building.next += 1
        if chunk.final:
            self._adopt(building)
        return chunk.final

    def _keep(self, first: int, changes: tuple[Change, ...]) -> None:
        self._buffered += len(changes)
        if self._buffered > MOST_BUFFERED:
            self.lack("overflow")
        else:
            self._buffer.append((first, changes))

    def _adopt(self, building: _Building) -> None:
        building.content.replace(self.content)
        self.content, self.last = building.content, building.last
        waiting, self._buffer = self._buffer, []
        self.progress, self.ask, self._building, self._buffered = Progress.SYNCED, None, None, 0
        for first, changes in waiting:
            if first > self.last + 1:
                self.lack("gap")
            if not self.synced:
                return
            self.delta(first, changes)
