"""One connection's publications on one channel with history: what flies, and what waits behind it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from tidewire.edge.pending import Flight, Pending, Place, Result


class LaneLimits(msgspec.Struct, frozen=True):
    """Seconds until a client is answered; and what may be held, over all lanes and in bytes of one lane's queue."""

    answer_within: float = 3.5
    publications: int = 65_536
    size: int = 64 * 1024 * 1024
    queue_size: int = 1024 * 1024
    batch: int = 128
    batch_size: int = 256 * 1024


class Settled(NamedTuple):
    """Publications of one owner that have ended alike: their client is to be told so."""

    owner: Hashable
    publications: Sequence[Pending]
    result: Result


class Lane:
    """One connection's publications on one channel."""

    __slots__ = ("blocked", "channel", "flight", "owner", "place", "size", "waiting")

    def __init__(self, owner: Hashable, channel: str, place: Place) -> None:
        self.owner = owner
        self.channel = channel
        self.place = place
        self.flight: Flight | None = None
        self.waiting: deque[Pending] = deque()
        self.size = 0
        """Bytes of what waits and flies."""
        self.blocked = False
        """The client was told that nobody knows what became of what flies."""

    def next_group(self, limits: LaneLimits) -> list[Pending]:
        """Take what goes out next: one publication, or as many as may be one batch where there are enough to be worth it."""
        waiting = self.waiting
        worthwhile = len(waiting) >= self.place.least_batch
        first = waiting.popleft()
        group = [first]
        if first.alone or not worthwhile:
            return group
        size = first.size
        while waiting and len(group) < limits.batch and not waiting[0].alone:
            size += waiting[0].size
            if size > limits.batch_size:
                break
            group.append(waiting.popleft())
        return group
