"""One connection's publications on one channel with history: what flies, and what waits behind it. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from tidewire.edge.pending import Flight, Pending, Place, Result
    from tidewire.edge.room import Share

MAX_SETBACKS: Final = 8
"""How often a version is compared anew because somebody else published in between."""


class LaneLimits(msgspec.Struct, frozen=True):
    """Seconds until a client is answered; and what may be held, over all lanes and in bytes of one lane's queue."""

    answer_within: float = 3.5
    publications: int = 65_536
    size: int = 64 * 1024 * 1024
    queue_size: int = 1024 * 1024
    batch: int = 128
    batch_size: int = 256 * 1024


Run = tuple[str, "Place", list["Pending"]]
"""Publications of one connection on one channel, which came together, and where they go."""
Settled = tuple[Hashable, Sequence["Pending"], "Result"]
"""Publications of one owner that have ended alike: their client is to be told so."""


class Lane(msgspec.Struct, eq=False):
    """One connection's publications on one channel."""

    owner: Hashable
    channel: str
    place: Place
    share: Share
    flight: Flight | None = None
    waiting: list[Pending] = []
    """Short, and mostly empty: then a list is the least that it can be."""
    size: int = 0
    """Bytes of what waits and flies."""
    blocked: bool = False
    """The client was told that nobody knows what became of what flies."""

    def next_group(self, limits: LaneLimits) -> list[Pending]:
        """Take what goes out next: one publication, or as many as may be one batch where there are enough to be worth it."""
        waiting = self.waiting
        count = 1
        if len(waiting) >= self.place.least_batch and not waiting[0].alone:
            size = waiting[0].size
            for each in waiting[1 : limits.batch]:
                size += each.size
                if each.alone or size > limits.batch_size:
                    break
                count += 1
        group = waiting[:count]
        del waiting[:count]
        return group

    def take_late(self, began: float) -> list[Pending]:
        """Take those at the head that came by then, up to one that may be stored."""
        late = []
        while self.waiting and self.waiting[0].started <= began and not self.waiting[0].doubtful:
            late.append(self.waiting.pop(0))
        return late

    def block(self) -> list[Pending]:
        """Let nothing more wait behind what flies but what may be stored; return the rest."""
        self.blocked = True
        unsent = [each for each in self.waiting if not each.doubtful]
        self.waiting = [each for each in self.waiting if each.doubtful]
        return unsent
